"""What tests share: fixtures, models to run, stand-ins for what is not here."""
