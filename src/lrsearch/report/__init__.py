"""Drawing and writing finished results. Nothing here runs a search."""
