"""What the data layer reaches, measured beside what others do."""
