"""OpenVINO IR v11: where bytes go (`layout`), the `.bin` in parts (`bin`), the `.xml` (`xml`), and both read back."""
