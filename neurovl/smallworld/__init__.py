"""The heart: pictures (scenes) and people who look at them (subjects).

May import recordings, for the formats that it writes, and errors; no network, neither training nor foundation.
"""
