//! The table at the end, and what to try next.

use super::ledger::{Book, Latencies};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use std::time::Duration;

/// Prints what was measured.
pub(super) fn print(book: &Book, published_in: Duration, arrived_in: Duration) {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["", "events", "events/s", "p50", "p99", "redelivered"]);
    let mut row = |name: &str, latencies: &Latencies, within: Duration, redelivered: String| {
        let rate = latencies.count() as f64 / within.as_secs_f64().max(0.001);
        table.add_row([
            name.to_owned(),
            latencies.count().to_string(),
            format!("{rate:.0}"),
            show(latencies.quantile(0.5)),
            show(latencies.quantile(0.99)),
            redelivered,
        ]);
    };
    row("published over HTTP", &book.http, published_in, String::new());
    row("published over gRPC", &book.grpc, published_in, String::new());
    row("consumed, from sent to handled", &book.end_to_end, arrived_in, book.redelivered.to_string());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let [first, second] = book.by_consumer;
    println!(
        "{table}\n\
         Rates and latencies have the kill and the restart in them; {} deliveries came to the two clients, \
         {first} and {second}.\n\n\
         To try it yourself, `make run`, and then:\n",
        book.deliveries
    );
    println!("{NEXT}");
}

/// Commands against a service as it is configured by default.
const NEXT: &str = r#"  curl localhost:8085/event-streaming/v1/topics -d '{"name": "orders"}' -H 'content-type: application/json'
  curl localhost:8085/event-streaming/v1/topics/orders/events -d '{"key": "o-1", "data": {"total": 12}}' -H 'content-type: application/json'
  curl 'localhost:8085/event-streaming/v1/topics/orders/events?from=earliest'"#;

fn show(time: Duration) -> String {
    let micros = time.as_micros() as f64;
    match micros {
        below if below < 1_000.0 => format!("{below:.0} µs"),
        below if below < 1_000_000.0 => format!("{:.1} ms", below / 1_000.0),
        _ => format!("{:.2} s", micros / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_unit_that_fits() {
        assert_eq!(show(Duration::from_micros(900)), "900 µs");
        assert_eq!(show(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(show(Duration::from_millis(1_500)), "1.50 s");
    }
}
