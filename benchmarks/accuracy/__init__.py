"""The paper's comparison of LoRA and aLoRA, on the bundled model; and its verdicts through the engine."""
