"""The one text path of training, client and server: normalise, segment, tokenize."""
