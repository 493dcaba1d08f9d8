"""PTQ and QAT: fake-quantization in, scales out; and calibration."""
