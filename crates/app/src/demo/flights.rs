//! The departures: real ones, read from the file that is built into the program.

use flate2::read::GzDecoder;
use serde_json::{Map, Value};

/// `demo/README.md` says where they come from.
const FILE: &[u8] = include_bytes!("../../../../demo/flights.csv.gz");

/// One departure as an event. Its place in the list is its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    /// The aircraft, which is the event's key; `None` where it is not known.
    pub(super) aircraft: Option<String>,
    /// All that is known of it, as JSON.
    pub(super) data: Value,
}

/// All departures, in the order of the schedule.
pub(super) fn read() -> Result<Vec<Flight>, csv::Error> {
    let mut rows = csv::Reader::from_reader(GzDecoder::new(FILE));
    let names = rows.headers()?.clone();
    rows.records()
        .map(|row| {
            let row = row?;
            let fields: Map<String, Value> =
                names.iter().zip(&row).map(|(name, text)| (name.to_owned(), value(text))).collect();
            let aircraft = fields.get("tailnum").and_then(Value::as_str).map(str::to_owned);
            Ok(Flight { aircraft, data: Value::Object(fields) })
        })
        .collect()
}

/// The id of the event of departure `number`.
pub(super) fn id(number: usize) -> String {
    format!("departure-{number:05}")
}

/// The number in an id.
pub(super) fn number(id: &str) -> Option<usize> {
    id.strip_prefix("departure-")?.parse().ok()
}

/// Two halves of about the same size, by number, that share no aircraft: the order of an aircraft's
/// departures is one publisher's to keep.
pub(super) fn halves(flights: &[Flight]) -> [Vec<usize>; 2] {
    let mut halves = [Vec::new(), Vec::new()];
    let mut taken = std::collections::HashMap::new();
    for (number, flight) in flights.iter().enumerate() {
        let lesser = usize::from(halves[1].len() < halves[0].len());
        let half = match &flight.aircraft {
            Some(aircraft) => *taken.entry(aircraft).or_insert(lesser),
            None => lesser,
        };
        halves[half].push(number);
    }
    halves
}

fn value(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn there_are_ten_thousand_departures_of_2464_aircraft() {
        let flights = read().expect("the file can be read");
        assert_eq!(flights.len(), 10_000);
        let aircraft: HashSet<_> = flights.iter().filter_map(|flight| flight.aircraft.as_ref()).collect();
        assert_eq!(aircraft.len(), 2_464);
        assert_eq!(flights[0].data["tailnum"], "N14228");
        assert_eq!(flights[0].data["flight"], 1545);
    }

    #[test]
    fn the_halves_share_no_aircraft_and_lose_no_departure() {
        let flights = read().expect("the file can be read");
        let [a, b] = halves(&flights);
        assert_eq!(a.len() + b.len(), flights.len());
        assert!(a.len().abs_diff(b.len()) < 500, "{} {}", a.len(), b.len());
        let of = |half: &[usize]| -> HashSet<String> {
            half.iter().filter_map(|&number| flights[number].aircraft.clone()).collect()
        };
        assert!(of(&a).is_disjoint(&of(&b)));
        assert!(a.is_sorted() && b.is_sorted());
    }

    #[test]
    fn a_number_is_read_back_from_its_id() {
        assert_eq!(number(&id(42)), Some(42));
        assert_eq!(number("something-else"), None);
    }
}
