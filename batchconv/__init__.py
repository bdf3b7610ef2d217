"""batchconv converts zoos of trained networks to OpenVINO IR."""
