"""What the tests share: stand-ins, factories of rows, services, pictures; it imports no test."""
