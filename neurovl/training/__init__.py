"""The one training loop: it knows no model and no data. Imports errors alone."""
