"""From volumes to tokens: resize, patches, writing and reading the token store. Imports recordings and what lies below."""
