//! What the clients saw, which is what the service is held to in the end.

use super::flights::{self, Flight};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// A partition and an offset.
pub(super) type Place = (u64, u64);

/// Which way a departure was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Http,
    Grpc,
}

/// Latencies in microseconds. Saturates at a minute.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u32>);

impl Latencies {
    #[allow(clippy::expect_used, reason = "bounds and digits are constants that a histogram takes")]
    fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 60_000_000, 3).expect("they are good"))
    }

    fn record(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_micros() as u64);
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this share of all stays within.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }
}

/// All that was seen.
#[derive(Debug)]
pub(super) struct Book {
    /// By departure, where its receipts said that it is; more than one when a batch had to be sent again.
    pub(super) receipts: Vec<Vec<Place>>,
    /// By departure, when it was first sent.
    sent: Vec<Option<Instant>>,
    /// Departures in the order in which they were first handled by either consumer.
    pub(super) handled: Vec<usize>,
    is_handled: Vec<bool>,
    /// Where what was delivered lies in the log.
    delivered: HashSet<Place>,
    /// Deliveries in all.
    pub(super) deliveries: u64,
    /// Those of an event that was delivered before. A departure that lies twice in the log, because it was
    /// sent twice, is none.
    pub(super) redelivered: u64,
    /// Deliveries by consumer.
    pub(super) by_consumer: [u64; 2],
    pub(super) http: Latencies,
    pub(super) grpc: Latencies,
    /// From the first sending to the first handling.
    pub(super) end_to_end: Latencies,
}

/// The book, shared by all clients, and how far they are.
#[derive(Debug)]
pub(super) struct Ledger {
    book: Mutex<Book>,
    acknowledged: watch::Sender<usize>,
    handled: watch::Sender<usize>,
}

impl Ledger {
    pub(super) fn new(departures: usize) -> Self {
        Self {
            book: Mutex::new(Book {
                receipts: vec![Vec::new(); departures],
                sent: vec![None; departures],
                handled: Vec::with_capacity(departures),
                is_handled: vec![false; departures],
                delivered: HashSet::with_capacity(departures),
                deliveries: 0,
                redelivered: 0,
                by_consumer: [0; 2],
                http: Latencies::new(),
                grpc: Latencies::new(),
                end_to_end: Latencies::new(),
            }),
            acknowledged: watch::Sender::new(0),
            handled: watch::Sender::new(0),
        }
    }

    /// These are on their way now. Only the first time counts.
    pub(super) fn sent(&self, numbers: &[usize]) {
        let now = Instant::now();
        let mut book = self.book.lock();
        for &number in numbers {
            book.sent[number].get_or_insert(now);
        }
    }

    /// A receipt came.
    pub(super) fn acknowledged(&self, way: Way, number: usize, place: Place) {
        let mut book = self.book.lock();
        let first = book.receipts[number].is_empty();
        book.receipts[number].push(place);
        if let (true, Some(sent)) = (first, book.sent[number]) {
            let latencies = if way == Way::Http { &mut book.http } else { &mut book.grpc };
            latencies.record(sent.elapsed());
        }
        drop(book);
        if first {
            self.acknowledged.send_modify(|count| *count += 1);
        }
    }

    /// A delivery came to a consumer, which does its work on it.
    pub(super) fn handled(&self, consumer: usize, number: usize, place: Place) {
        let mut book = self.book.lock();
        book.deliveries += 1;
        book.by_consumer[consumer] += 1;
        if !book.delivered.insert(place) {
            book.redelivered += 1;
        }
        if std::mem::replace(&mut book.is_handled[number], true) {
            return;
        }
        book.handled.push(number);
        if let Some(sent) = book.sent[number] {
            book.end_to_end.record(sent.elapsed());
        }
        drop(book);
        self.handled.send_modify(|count| *count += 1);
    }

    /// How many departures have a receipt.
    pub(super) fn acknowledged_count(&self) -> watch::Receiver<usize> {
        self.acknowledged.subscribe()
    }

    /// How many departures were handled.
    pub(super) fn handled_count(&self) -> watch::Receiver<usize> {
        self.handled.subscribe()
    }

    /// Looks into the book.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.book.lock())
    }
}

/// What a reader from outside finds in the topic.
pub(super) type Found = BTreeMap<Place, usize>;

/// Everything that is wrong, in words; empty when every promise was kept.
pub(super) fn complaints(flights: &[Flight], book: &Book, found: &Found) -> Vec<String> {
    let mut complaints = Vec::new();
    let handled: BTreeSet<usize> = book.handled.iter().copied().collect();
    let mut complain = |what: &str, numbers: Vec<usize>| {
        if let Some(first) = numbers.first() {
            complaints.push(format!("{} {what}, the first is {}", numbers.len(), flights::id(*first)));
        }
    };
    let acknowledged = || (0..flights.len()).filter(|&number| !book.receipts[number].is_empty());
    let never = (0..flights.len()).filter(|&number| book.receipts[number].is_empty());
    complain("departures were never acknowledged", never.collect());
    complain(
        "acknowledged departures are not where their receipts say",
        acknowledged()
            .filter(|number| book.receipts[*number].iter().any(|place| found.get(place) != Some(number)))
            .collect(),
    );
    complain(
        "acknowledged departures did not arrive at a consumer",
        acknowledged().filter(|number| !handled.contains(number)).collect(),
    );
    complain(
        "departures lie out of their aircraft's order in the log",
        out_of_order(flights, found.values()),
    );
    complain("departures were handled out of their aircraft's order", out_of_order(flights, &book.handled));
    let mut partitions: HashMap<&str, u64> = HashMap::new();
    let astray = found.iter().filter(|((partition, _), number)| {
        let aircraft = flights[**number].aircraft.as_deref();
        aircraft.is_some_and(|aircraft| *partitions.entry(aircraft).or_insert(*partition) != *partition)
    });
    complain(
        "departures lie in another partition than their aircraft's others",
        astray.map(|(_, n)| *n).collect(),
    );
    complaints
}

/// Those that come, for the first time, after a later departure of the same aircraft.
fn out_of_order<'a>(flights: &[Flight], in_order: impl IntoIterator<Item = &'a usize>) -> Vec<usize> {
    let mut latest: HashMap<&str, usize> = HashMap::new();
    let mut seen = vec![false; flights.len()];
    let mut wrong = Vec::new();
    for &number in in_order {
        // One that comes again is recognised by its id.
        if std::mem::replace(&mut seen[number], true) {
            continue;
        }
        let Some(aircraft) = flights[number].aircraft.as_deref() else { continue };
        let latest = latest.entry(aircraft).or_insert(number);
        if number < *latest {
            wrong.push(number);
        }
        *latest = number.max(*latest);
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flights(aircraft: &[&str]) -> Vec<Flight> {
        let flight = |name: &&str| Flight {
            aircraft: (!name.is_empty()).then(|| (*name).to_owned()),
            data: serde_json::Value::Null,
        };
        aircraft.iter().map(flight).collect()
    }

    /// Three departures, all acknowledged at offset = number of partition 0 and handled in order.
    fn good() -> (Vec<Flight>, Ledger, Found) {
        let ledger = Ledger::new(3);
        for number in 0..3 {
            ledger.sent(&[number]);
            ledger.acknowledged(Way::Http, number, (0, number as u64));
            ledger.handled(0, number, (0, number as u64));
        }
        (flights(&["a", "b", "a"]), ledger, (0..3).map(|number| ((0, number as u64), number)).collect())
    }

    fn said(flights: &[Flight], ledger: &Ledger, found: &Found) -> String {
        ledger.read(|book| complaints(flights, book, found)).join("; ")
    }

    #[test]
    fn nothing_is_wrong_when_all_arrived_in_order_even_twice() {
        let (flights, ledger, mut found) = good();
        // A batch was sent again after a crash, and deliveries came again.
        found.insert((0, 3), 0);
        found.insert((0, 4), 2);
        ledger.acknowledged(Way::Http, 0, (0, 3));
        ledger.handled(1, 0, (0, 3));
        ledger.handled(1, 2, (0, 2));
        assert_eq!(said(&flights, &ledger, &found), "");
        assert_eq!(ledger.read(|book| (book.redelivered, book.deliveries)), (1, 5));
    }

    #[test]
    fn what_was_lost_or_moved_is_told() {
        let (flights, ledger, mut found) = good();
        found.remove(&(0, 1));
        assert!(said(&flights, &ledger, &found).contains("1 acknowledged departures are not where"));
        found.insert((0, 1), 2);
        assert!(said(&flights, &ledger, &found).contains("not where their receipts say"));
    }

    #[test]
    fn what_did_not_arrive_is_told() {
        let ledger = Ledger::new(2);
        ledger.acknowledged(Way::Grpc, 0, (0, 0));
        let text = said(&flights(&["a", "a"]), &ledger, &Found::from([((0, 0), 0)]));
        assert!(text.contains("never acknowledged") && text.contains("did not arrive"), "{text}");
    }

    #[test]
    fn an_aircrafts_order_is_watched_in_the_log_and_at_the_consumers() {
        let (flights, _, _) = good();
        assert_eq!(out_of_order(&flights, &[2, 1, 0]), [0]);
        assert_eq!(out_of_order(&flights, &[1, 0, 2]), [0_usize; 0], "another aircraft's order is free");
        assert_eq!(out_of_order(&flights, &[0, 2, 0, 2, 1]), [0_usize; 0], "what comes again is no disorder");
        let (flights, ledger, mut found) = good();
        found.insert((1, 0), 2);
        assert!(said(&flights, &ledger, &found).contains("another partition"));
    }
}
