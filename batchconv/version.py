"""The version of batchconv; part of the key of every artifact."""

VERSION = "0.1.0"
