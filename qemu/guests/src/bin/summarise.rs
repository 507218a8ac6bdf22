//! `summarise FILE`: reads the orders of a shop from a JSON file (`-` for standard input) and prints a summary.
//!
//! The demo's real program: files, parsing, floating point, hash maps, sorting, formatted output. The same
//! input gives the same output.

use std::{
    collections::{BTreeMap, HashMap},
    env, fmt, fs,
    io::{self, Read},
    process::ExitCode,
};

use serde::Deserialize;

#[derive(Deserialize)]
struct Shop {
    currency: String,
    orders: Vec<Order>,
}

#[derive(Deserialize)]
struct Order {
    number: u32,
    customer: String,
    country: String,
    date: String,
    paid: bool,
    items: Vec<Item>,
    rating: Option<f64>,
}

#[derive(Deserialize)]
struct Item {
    product: String,
    quantity: u64,
    cents: u64,
}

impl Order {
    fn total(&self) -> u64 {
        self.items.iter().map(|item| item.quantity * item.cents).sum()
    }
}

fn main() -> ExitCode {
    let Some(path) = env::args().nth(1) else {
        eprintln!("usage: summarise FILE");
        return ExitCode::from(2);
    };
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("summarise: cannot read {path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    match serde_json::from_str::<Shop>(&text) {
        Ok(shop) => {
            println!("{path}: {} bytes, {} orders", text.len(), shop.orders.len());
            print(&shop);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("summarise: {path} is not a list of orders: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(path: &str) -> io::Result<String> {
    if path != "-" {
        return fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn print(shop: &Shop) {
    let orders = &shop.orders;
    let money = |cents| Money(cents, &shop.currency);
    let revenue: u64 = orders.iter().map(Order::total).sum();
    let items: u64 = orders.iter().flat_map(|order| &order.items).map(|item| item.quantity).sum();
    println!("revenue           {}", money(revenue));
    println!("items             {items}");
    if let Some(average) = revenue.checked_div(orders.len() as u64) {
        println!("average order     {}", money(average));
    }
    if let Some(largest) = orders.iter().max_by_key(|order| (order.total(), order.number)) {
        println!("largest order     {} ({}, {})", money(largest.total()), largest.number, largest.customer);
    }
    let unpaid: Vec<_> = orders.iter().filter(|order| !order.paid).collect();
    let owed = unpaid.iter().map(|order| order.total()).sum();
    println!("unpaid            {} in {} orders", money(owed), unpaid.len());
    let ratings: Vec<f64> = orders.iter().filter_map(|order| order.rating).collect();
    if !ratings.is_empty() {
        let mean = ratings.iter().sum::<f64>() / ratings.len() as f64;
        let variance =
            ratings.iter().map(|rating| (rating - mean).powi(2)).sum::<f64>() / ratings.len() as f64;
        println!("rating            {mean:.3} ± {:.3} of {}", variance.sqrt(), ratings.len());
    }

    let by_product = orders.iter().flat_map(|order| &order.items);
    top("products", by_product.map(|item| (item.product.as_str(), item.quantity * item.cents)), money);
    top("customers", orders.iter().map(|order| (order.customer.as_str(), order.total())), money);
    top("countries", orders.iter().map(|order| (order.country.as_str(), order.total())), money);

    println!("by month");
    let mut months: BTreeMap<&str, u64> = BTreeMap::new();
    for order in orders {
        *months.entry(order.date.get(..7).unwrap_or("?")).or_default() += order.total();
    }
    let best = months.values().copied().max().unwrap_or(0).max(1);
    for (month, cents) in months {
        let bar = usize::try_from(cents * 40 / best).unwrap_or(0);
        println!("  {month}  {:>16}  {}", money(cents).to_string(), "#".repeat(bar));
    }
}

/// Prints the three with the highest sums.
fn top<'a>(title: &str, parts: impl Iterator<Item = (&'a str, u64)>, money: impl Fn(u64) -> Money<'a>) {
    let mut sums: HashMap<&str, u64> = HashMap::new();
    for (name, cents) in parts {
        *sums.entry(name).or_default() += cents;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    println!("top {title} of {}", sums.len());
    for (name, cents) in sums.iter().take(3) {
        println!("  {:>16}  {name}", money(*cents).to_string());
    }
}

/// Cents, and of what.
struct Money<'a>(u64, &'a str);

impl fmt::Display for Money<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02} {}", self.0 / 100, self.0 % 100, self.1)
    }
}
