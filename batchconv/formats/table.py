"""The table of formats: the arithmetic of each, its groups, and its formula with the source."""

from __future__ import annotations

from dataclasses import dataclass

from batchconv.formats.rules import Asymmetric, Float4, Float8, Rule, Symmetric, Table
from batchconv.tensor import DType


@dataclass(frozen=True, slots=True)
class Format:
    """One compression format.

    rule: its arithmetic (None: no scales); group: elements that share a scale unless told otherwise, -1: a channel;
    any_group: False where the format fixes the group; formula: what is computed, and who says so (without the scale
    search, whose method `encoder.searched` tells).
    """

    rule: Rule | None
    group: int
    any_group: bool
    formula: str

    @property
    def bits(self) -> int:
        """Bits of one element."""
        return 16 if self.rule is None else self.rule.codes.bits


_SIGNED = (
    "s = |min| / 2^(b-1) if |min| >= max else -max / 2^(b-1), |s| >= 2^-23; "
    "q = clip(round(w / s), -2^(b-1), 2^(b-1)-1); w' = f16(s) q. "
    "NNCF _calculate_signed_scale, _calculate_integer_quantized_weight."
)
_BETWEEN = (
    "lo = min(0, min), hi = max(0, max); s = (hi - lo) / (2^b - 1) >= 2^-23; z = clip(-round(lo / s), 0, 2^b - 1); "
    "q = clip(round(w / s + z), 0, 2^b - 1); w' = f16(s) (q - z). NNCF calculate_scale_zero_point."
)
_OFFSET = _SIGNED + " Stored without a sign as q + 2^(b-1), with one zero point 2^(b-1) for the tensor."
_GREATEST = "s = max|w| / {top}; q = nearest {kind} to w / s{ties}; w' = {scale} q. {source}"

FORMATS: dict[str, Format] = {
    "fp16": Format(
        None,
        -1,
        False,
        "q = f16(w), nearest even, clamped to +-65504. A constant of one element stays f32 if that loses over 1e-4 "
        "relative or 1.0; others if at least 75 % lie beyond 65504 or lose over 1e-3. OpenVINO CompressFloatConstants.",
    ),
    "bf16": Format(None, -1, False, "q = bf16(w): the upper 16 bits of f32, nearest even. OpenVINO ov::bfloat16."),
    "int8_sym": Format(Symmetric(8, DType.I8), -1, False, _SIGNED),
    "int8_asym": Format(Asymmetric(8, DType.U8), -1, False, _BETWEEN),
    "int4_sym": Format(Symmetric(4, DType.I4, (1.0, 0.88)), 128, True, _SIGNED),
    "int4_asym": Format(Asymmetric(4, DType.U4, (1.0, 0.92)), 128, True, _BETWEEN),
    "int3_sym": Format(Symmetric(3, DType.U3, (1.0, 0.85, 0.7, 0.6)), 128, True, _OFFSET),
    "int2_sym": Format(Symmetric(2, DType.U2, (1.0, 0.8, 0.65, 0.5)), 128, True, _OFFSET),
    "nf4": Format(
        Table("nf4", DType.NF4, (1.0, -0.92)),
        128,
        True,
        _GREATEST.format(
            top="1",
            kind="of 16 normal quantiles",
            ties="",
            scale="f16(s)",
            source="QLoRA, appendix E; NNCF NF4_QUANTILES.",
        ),
    ),
    "fp4": Format(
        Float4(shrink=(1.0, 0.92, 0.84, 0.76)),
        128,
        True,
        _GREATEST.format(
            top="6",
            kind="f4e2m1",
            ties=", ties to even",
            scale="f16(s)",
            source="NNCF do_float_quantization; OCP MX 5.3.3.",
        ),
    ),
    "mxfp4": Format(
        Float4(DType.F8E8M0),
        32,
        False,
        _GREATEST.format(
            top="6",
            kind="f4e2m1",
            ties=", ties to even",
            scale="s",
            source="s is raised to a power of two. OCP MX v1.0; NNCF.",
        ),
    ),
    "nvfp4": Format(
        Float4(DType.F8E4M3),
        16,
        False,
        _GREATEST.format(
            top="6",
            kind="f4e2m1",
            ties=", ties to even",
            scale="f16(t f8e4m3(s / t))",
            source="t = max(s) / 448 over the tensor, f32. NNCF do_float_quantization (NVFP4).",
        ),
    ),
    "fp8_e4m3": Format(
        Float8(DType.F8E4M3),
        128,
        True,
        _GREATEST.format(
            top="448", kind="f8e4m3", ties=" by way of f16", scale="f16(s)", source="NNCF do_float_quantization."
        ),
    ),
    "fp8_e5m2": Format(
        Float8(DType.F8E5M2),
        128,
        True,
        _GREATEST.format(
            top="57344",
            kind="f8e5m2",
            ties=" by way of f16",
            scale="f16(s)",
            source="As fp8_e4m3; OCP OFP8; not in NNCF.",
        ),
    ),
    "mxfp8_e4m3": Format(
        Float8(DType.F8E4M3, DType.F8E8M0),
        32,
        False,
        _GREATEST.format(
            top="448",
            kind="f8e4m3",
            ties=" by way of f16",
            scale="s",
            source="s is raised to a power of two. OCP MX v1.0; NNCF.",
        ),
    ),
    "cb4": Format(
        Table("cb4", DType.U4, (1.0, 0.92, -1.0, -0.92)),
        -1,
        True,
        _GREATEST.format(
            top="3.5",
            kind="of 16 values of f8e4m3",
            ties="",
            scale="f16(s)",
            source="NNCF CB4_QUANTILES, _calculate_codebook_indexes.",
        ),
    ),
}
