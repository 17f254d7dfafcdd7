"""One file a venue, behind the doorway in `doorway`. `known` lists them and tells whose a message is."""
