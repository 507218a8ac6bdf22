//! Input for the guest programs: made up, and the same each time.
//!
//! Without dependencies, so that a host program can use it as well as a guest.

use std::fmt::Write;

const CUSTOMERS: [&str; 12] = [
    "Ada Lovelace",
    "Blaise Pascal",
    "Édouard Lucas",
    "François Viète",
    "Grace Hopper",
    "János Bolyai",
    "Kurt Gödel",
    "Niels Bohr",
    "Ole Rømer",
    "Σωκράτης",
    "岡潔",
    "Zuse \\\"Konrad\\\" & Söhne",
];
const COUNTRIES: [&str; 8] = ["AT", "DE", "DK", "FR", "GR", "HU", "JP", "US"];
const PRODUCTS: [(&str, u64); 10] = [
    ("abacus", 1250),
    ("balance", 8999),
    ("compass", 2495),
    ("dial", 499),
    ("easel", 4550),
    ("flask", 780),
    ("globe", 12900),
    ("hourglass", 1999),
    ("inkwell", 350),
    ("journal", 1575),
];

/// Orders of a shop, as JSON. The default of the demo is 2000 of them, some 500 kB.
pub fn orders(count: u32) -> String {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut json = String::from("{\n  \"currency\": \"EUR\",\n  \"orders\": [");
    for number in 0..count {
        if number > 0 {
            json.push(',');
        }
        order(&mut json, 10_001 + number, &mut random);
    }
    json.push_str("\n  ]\n}\n");
    json
}

fn order(json: &mut String, number: u32, random: &mut Random) {
    let customer = CUSTOMERS[random.below(CUSTOMERS.len())];
    let country = COUNTRIES[random.below(COUNTRIES.len())];
    let (month, day) = (1 + random.below(12), 1 + random.below(28));
    let paid = random.below(10) != 0;
    // Writing to a string cannot fail.
    let _ = write!(
        json,
        "\n    {{\"number\": {number}, \"customer\": \"{customer}\", \"country\": \"{country}\", \
         \"date\": \"2026-{month:02}-{day:02}\", \"paid\": {paid}, \"items\": ["
    );
    for item in 0..=random.below(4) {
        let (product, price) = PRODUCTS[random.below(PRODUCTS.len())];
        let quantity = 1 + random.below(9);
        let comma = if item > 0 { ", " } else { "" };
        let _ = write!(
            json,
            "{comma}{{\"product\": \"{product}\", \"quantity\": {quantity}, \"cents\": {price}}}"
        );
    }
    json.push_str("], \"rating\": ");
    match random.below(4) {
        0 => json.push_str("null"),
        _ => {
            let tenths = 10 + random.below(41);
            let _ = write!(json, "{}.{}", tenths / 10, tenths % 10);
        }
    }
    json.push('}');
}

/// A module in text form with `count` data segments of a few bytes each, as compilers of other languages make
/// them: `peek` reads a byte, segment `n` lies at `16 * n` and begins with the low byte of `n`.
pub fn many_segments(count: u32) -> String {
    let pages = count.div_ceil(65_536 / 16).max(1);
    let mut text = format!("(module\n  (memory (export \"memory\") {pages})\n");
    for segment in 0..count {
        let [low, high, ..] = segment.to_le_bytes();
        let at = 16 * segment;
        let _ = writeln!(text, "  (data (i32.const {at}) \"\\{low:02x}\\{high:02x}segment\")");
    }
    text.push_str("  (func (export \"peek\") (param i32) (result i32) (i32.load8_u (local.get 0))))\n");
    text
}

/// `xorshift64`: enough to look irregular.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The remainder is smaller than `limit`.
        usize::try_from((self.0 >> 16) % limit.max(1) as u64).unwrap_or(0)
    }
}
