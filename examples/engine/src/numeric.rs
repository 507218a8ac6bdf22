//! Numeric instructions: each is a function from bits to bits.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "that is what these instructions do"
)]

use wasmparser::Operator;

use crate::{Trap, code::Op};

/// A value in a slot.
trait Slot: Copy {
    fn from_bits(bits: u64) -> Self;
    fn into_bits(self) -> u64;
}

macro_rules! slots {
    ($($ty:ty: $from:expr, $into:expr;)*) => {$(
        impl Slot for $ty {
            fn from_bits(bits: u64) -> Self {
                let from: fn(u64) -> Self = $from;
                from(bits)
            }
            fn into_bits(self) -> u64 {
                let into: fn(Self) -> u64 = $into;
                into(self)
            }
        }
        impl Answer for $ty {
            fn answer(self) -> Result<u64, Trap> {
                Ok(self.into_bits())
            }
        }
    )*};
}

/// What an instruction gives: a value, or a trap.
trait Answer {
    fn answer(self) -> Result<u64, Trap>;
}

impl<T: Slot> Answer for Result<T, Trap> {
    fn answer(self) -> Result<u64, Trap> {
        self.map(T::into_bits)
    }
}

slots! {
    bool: |bits| bits != 0, u64::from;
    u32: |bits| bits as Self, u64::from;
    i32: |bits| bits as Self, |value| u64::from(value as u32);
    u64: |bits| bits, |value| value;
    i64: |bits| bits as Self, |value| value as u64;
    f32: |bits| Self::from_bits(bits as u32), |value| u64::from(value.to_bits());
    f64: |bits| Self::from_bits(bits), Self::to_bits;
}

macro_rules! instructions {
    ($($name:ident($($operand:ident: $ty:ty),+) => $value:expr;)*) => {
        /// The instruction, if it is a numeric one.
        pub(crate) fn instruction(operator: &Operator<'_>) -> Option<Op> {
            Some(match operator {
                $(Operator::$name => instruction!($($operand: $ty),+ => $value),)*
                _ => return None,
            })
        }
    };
}

macro_rules! instruction {
    ($a:ident: $A:ty => $value:expr) => {
        Op::Unary(|a| {
            let $a = <$A as Slot>::from_bits(a);
            Answer::answer($value)
        })
    };
    ($a:ident: $A:ty, $b:ident: $B:ty => $value:expr) => {
        Op::Binary(|a, b| {
            let ($a, $b) = (<$A as Slot>::from_bits(a), <$B as Slot>::from_bits(b));
            Answer::answer($value)
        })
    };
}

instructions! {
    RefIsNull(a: u64) => a == 0;

    I32Eqz(a: u32) => a == 0;
    I32Eq(a: u32, b: u32) => a == b;
    I32Ne(a: u32, b: u32) => a != b;
    I32LtS(a: i32, b: i32) => a < b;
    I32LtU(a: u32, b: u32) => a < b;
    I32GtS(a: i32, b: i32) => a > b;
    I32GtU(a: u32, b: u32) => a > b;
    I32LeS(a: i32, b: i32) => a <= b;
    I32LeU(a: u32, b: u32) => a <= b;
    I32GeS(a: i32, b: i32) => a >= b;
    I32GeU(a: u32, b: u32) => a >= b;
    I32Clz(a: u32) => a.leading_zeros();
    I32Ctz(a: u32) => a.trailing_zeros();
    I32Popcnt(a: u32) => a.count_ones();
    I32Add(a: u32, b: u32) => a.wrapping_add(b);
    I32Sub(a: u32, b: u32) => a.wrapping_sub(b);
    I32Mul(a: u32, b: u32) => a.wrapping_mul(b);
    I32DivS(a: i32, b: i32) => if b == 0 { Err(Trap::DivisionByZero) } else { a.checked_div(b).ok_or(Trap::IntegerOverflow) };
    I32DivU(a: u32, b: u32) => a.checked_div(b).ok_or(Trap::DivisionByZero);
    I32RemS(a: i32, b: i32) => if b == 0 { Err(Trap::DivisionByZero) } else { Ok(a.wrapping_rem(b)) };
    I32RemU(a: u32, b: u32) => a.checked_rem(b).ok_or(Trap::DivisionByZero);
    I32And(a: u32, b: u32) => a & b;
    I32Or(a: u32, b: u32) => a | b;
    I32Xor(a: u32, b: u32) => a ^ b;
    I32Shl(a: u32, b: u32) => a.wrapping_shl(b);
    I32ShrS(a: i32, b: u32) => a.wrapping_shr(b);
    I32ShrU(a: u32, b: u32) => a.wrapping_shr(b);
    I32Rotl(a: u32, b: u32) => a.rotate_left(b % 32);
    I32Rotr(a: u32, b: u32) => a.rotate_right(b % 32);
    I32Extend8S(a: u32) => i32::from(a as i8);
    I32Extend16S(a: u32) => i32::from(a as i16);

    I64Eqz(a: u64) => a == 0;
    I64Eq(a: u64, b: u64) => a == b;
    I64Ne(a: u64, b: u64) => a != b;
    I64LtS(a: i64, b: i64) => a < b;
    I64LtU(a: u64, b: u64) => a < b;
    I64GtS(a: i64, b: i64) => a > b;
    I64GtU(a: u64, b: u64) => a > b;
    I64LeS(a: i64, b: i64) => a <= b;
    I64LeU(a: u64, b: u64) => a <= b;
    I64GeS(a: i64, b: i64) => a >= b;
    I64GeU(a: u64, b: u64) => a >= b;
    I64Clz(a: u64) => u64::from(a.leading_zeros());
    I64Ctz(a: u64) => u64::from(a.trailing_zeros());
    I64Popcnt(a: u64) => u64::from(a.count_ones());
    I64Add(a: u64, b: u64) => a.wrapping_add(b);
    I64Sub(a: u64, b: u64) => a.wrapping_sub(b);
    I64Mul(a: u64, b: u64) => a.wrapping_mul(b);
    I64DivS(a: i64, b: i64) => if b == 0 { Err(Trap::DivisionByZero) } else { a.checked_div(b).ok_or(Trap::IntegerOverflow) };
    I64DivU(a: u64, b: u64) => a.checked_div(b).ok_or(Trap::DivisionByZero);
    I64RemS(a: i64, b: i64) => if b == 0 { Err(Trap::DivisionByZero) } else { Ok(a.wrapping_rem(b)) };
    I64RemU(a: u64, b: u64) => a.checked_rem(b).ok_or(Trap::DivisionByZero);
    I64And(a: u64, b: u64) => a & b;
    I64Or(a: u64, b: u64) => a | b;
    I64Xor(a: u64, b: u64) => a ^ b;
    // The low bits of a count are all that matters: the low half has them.
    I64Shl(a: u64, b: u32) => a.wrapping_shl(b);
    I64ShrS(a: i64, b: u32) => a.wrapping_shr(b);
    I64ShrU(a: u64, b: u32) => a.wrapping_shr(b);
    I64Rotl(a: u64, b: u32) => a.rotate_left(b % 64);
    I64Rotr(a: u64, b: u32) => a.rotate_right(b % 64);
    I64Extend8S(a: u64) => i64::from(a as i8);
    I64Extend16S(a: u64) => i64::from(a as i16);
    I64Extend32S(a: u64) => i64::from(a as i32);

    F32Eq(a: f32, b: f32) => a == b;
    F32Ne(a: f32, b: f32) => a != b;
    F32Lt(a: f32, b: f32) => a < b;
    F32Gt(a: f32, b: f32) => a > b;
    F32Le(a: f32, b: f32) => a <= b;
    F32Ge(a: f32, b: f32) => a >= b;
    F32Abs(a: u32) => a & !F32_SIGN;
    F32Neg(a: u32) => a ^ F32_SIGN;
    F32Copysign(a: u32, b: u32) => a & !F32_SIGN | b & F32_SIGN;
    F32Ceil(a: f32) => libm::ceilf(a);
    F32Floor(a: f32) => libm::floorf(a);
    F32Trunc(a: f32) => libm::truncf(a);
    F32Nearest(a: f32) => libm::roundevenf(a);
    F32Sqrt(a: f32) => libm::sqrtf(a);
    F32Add(a: f32, b: f32) => a + b;
    F32Sub(a: f32, b: f32) => a - b;
    F32Mul(a: f32, b: f32) => a * b;
    F32Div(a: f32, b: f32) => a / b;
    F32Min(a: f32, b: f32) => if a < b { a } else if b < a { b } else if a == b { f32::from_bits(a.to_bits() | b.to_bits()) } else { a + b };
    F32Max(a: f32, b: f32) => if a > b { a } else if b > a { b } else if a == b { f32::from_bits(a.to_bits() & b.to_bits()) } else { a + b };

    F64Eq(a: f64, b: f64) => a == b;
    F64Ne(a: f64, b: f64) => a != b;
    F64Lt(a: f64, b: f64) => a < b;
    F64Gt(a: f64, b: f64) => a > b;
    F64Le(a: f64, b: f64) => a <= b;
    F64Ge(a: f64, b: f64) => a >= b;
    F64Abs(a: u64) => a & !F64_SIGN;
    F64Neg(a: u64) => a ^ F64_SIGN;
    F64Copysign(a: u64, b: u64) => a & !F64_SIGN | b & F64_SIGN;
    F64Ceil(a: f64) => libm::ceil(a);
    F64Floor(a: f64) => libm::floor(a);
    F64Trunc(a: f64) => libm::trunc(a);
    F64Nearest(a: f64) => libm::roundeven(a);
    F64Sqrt(a: f64) => libm::sqrt(a);
    F64Add(a: f64, b: f64) => a + b;
    F64Sub(a: f64, b: f64) => a - b;
    F64Mul(a: f64, b: f64) => a * b;
    F64Div(a: f64, b: f64) => a / b;
    F64Min(a: f64, b: f64) => if a < b { a } else if b < a { b } else if a == b { f64::from_bits(a.to_bits() | b.to_bits()) } else { a + b };
    F64Max(a: f64, b: f64) => if a > b { a } else if b > a { b } else if a == b { f64::from_bits(a.to_bits() & b.to_bits()) } else { a + b };

    I32WrapI64(a: u32) => a;
    I64ExtendI32S(a: i32) => i64::from(a);
    I64ExtendI32U(a: u32) => u64::from(a);
    I32TruncF32S(a: f32) => truncated(a.into(), I32).map(|a| a as i32);
    I32TruncF32U(a: f32) => truncated(a.into(), U32).map(|a| a as u32);
    I32TruncF64S(a: f64) => truncated(a, I32).map(|a| a as i32);
    I32TruncF64U(a: f64) => truncated(a, U32).map(|a| a as u32);
    I64TruncF32S(a: f32) => truncated(a.into(), I64).map(|a| a as i64);
    I64TruncF32U(a: f32) => truncated(a.into(), U64).map(|a| a as u64);
    I64TruncF64S(a: f64) => truncated(a, I64).map(|a| a as i64);
    I64TruncF64U(a: f64) => truncated(a, U64).map(|a| a as u64);
    I32TruncSatF32S(a: f32) => a as i32;
    I32TruncSatF32U(a: f32) => a as u32;
    I32TruncSatF64S(a: f64) => a as i32;
    I32TruncSatF64U(a: f64) => a as u32;
    I64TruncSatF32S(a: f32) => a as i64;
    I64TruncSatF32U(a: f32) => a as u64;
    I64TruncSatF64S(a: f64) => a as i64;
    I64TruncSatF64U(a: f64) => a as u64;
    F32ConvertI32S(a: i32) => a as f32;
    F32ConvertI32U(a: u32) => a as f32;
    F32ConvertI64S(a: i64) => a as f32;
    F32ConvertI64U(a: u64) => a as f32;
    F32DemoteF64(a: f64) => a as f32;
    F64ConvertI32S(a: i32) => f64::from(a);
    F64ConvertI32U(a: u32) => f64::from(a);
    F64ConvertI64S(a: i64) => a as f64;
    F64ConvertI64U(a: u64) => a as f64;
    F64PromoteF32(a: f32) => f64::from(a);
    I32ReinterpretF32(a: u32) => a;
    I64ReinterpretF64(a: u64) => a;
    F32ReinterpretI32(a: u32) => a;
    F64ReinterpretI64(a: u64) => a;
}

const F32_SIGN: u32 = 1 << 31;
const F64_SIGN: u64 = 1 << 63;

/// The numbers of a type: the least, and what follows the greatest. All are exact.
const I32: [f64; 2] = [-2_147_483_648.0, 2_147_483_648.0];
const U32: [f64; 2] = [0.0, 4_294_967_296.0];
const I64: [f64; 2] = [-9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0];
const U64: [f64; 2] = [0.0, 18_446_744_073_709_551_616.0];

/// The whole part of a number, which the type must have.
fn truncated(a: f64, [least, end]: [f64; 2]) -> Result<f64, Trap> {
    let whole = libm::trunc(a);
    if a.is_nan() {
        Err(Trap::BadConversion)
    } else if whole < least || whole >= end {
        Err(Trap::IntegerOverflow)
    } else {
        Ok(whole)
    }
}
