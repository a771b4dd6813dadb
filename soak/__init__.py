"""Long and violent tests of Dialer: `python -m soak`, from a checkout; no part of the package."""
