"""Does a liquidation map predict: location, episodes, calibration, magnets, reactions, placebos and their verdicts."""
