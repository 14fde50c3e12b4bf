"""Networks of SAZS: DPT and DRN backbones, and the text side."""
