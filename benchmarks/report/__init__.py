"""Reports: measurements, files, tables, plots, and two reports compared."""
