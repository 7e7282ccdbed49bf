"""The heart: pictures (scenes) and people who look at them (subjects). Imports recordings, for the formats it writes; no network."""
