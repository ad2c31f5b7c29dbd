//! What goes out under a claim, and what becomes of it.

use super::*;

fn take(core: &mut PartitionCore) -> Vec<Taken> {
    let mut taken = Vec::new();
    core.take(9, usize::MAX, usize::MAX, false, &mut taken);
    taken
}

fn only_ticket(core: &mut PartitionCore) -> Ticket {
    match &effects(core)[..] {
        [Effect::Complete { ticket, .. } | Effect::Extend { ticket, .. }] => *ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_claim_is_extended_at_its_turn_only_where_it_would_end_too_early() {
    for (lasts, extended) in [(35, true), (44, true), (45, false), (90, false)] {
        let mut core = core(config(Ordering::Partition, true), &[None, None]);
        let mut out = Vec::new();
        for taken in take(&mut core) {
            let claim = (claim_of(&taken), 1, at(lasts).steady);
            out.extend(core.deliver(at(0), taken.ticket, Some(claim), !out.is_empty()));
        }
        assert_eq!(core.decide(at(10), out[0].lease, Decision::Ack), None);
        // The second has until 40, and its claim 5 s more.
        let effects = effects(&mut core);
        assert!(matches!(effects.last(), Some(Effect::Complete { .. })), "what is waited for is the last");
        let expected = Effect::Extend {
            ticket: Ticket { offset: 1, number: out[1].lease.id.number, ..only_of(&effects, 1) },
            claim: out[1].claim.unwrap(),
            lease: TIMEOUT + CLAIM_MARGIN,
            answer: false,
        };
        assert_eq!(effects[..effects.len() - 1].contains(&expected), extended, "a claim until {lasts}");
        assert_eq!(effects.len(), 1 + usize::from(extended));
    }
}

/// The ticket of an effect for an offset; of any where there is none.
fn only_of(effects: &[Effect], offset: Offset) -> Ticket {
    let ticket = |effect: &Effect| match effect {
        Effect::Complete { ticket, .. } | Effect::Extend { ticket, .. } => *ticket,
        Effect::DeadLetter(letter) | Effect::RetryElsewhere { letter, .. } => letter.ticket,
    };
    let mut tickets = effects.iter().map(ticket);
    tickets.find(|ticket| ticket.offset == offset).unwrap_or_else(|| ticket(&effects[0]))
}

#[test]
fn an_extension_holds_when_that_of_its_claim_does() {
    let mut core = core(config(Ordering::None, true), &[None]);
    let out = deliver(&mut core, at(0), 1, 1);
    let minute = Duration::from_secs(60);
    assert_eq!(core.decide(at(10), out[0].lease, Decision::Extend(minute)), None);
    let ticket = only_ticket(&mut core);
    assert_eq!(core.next_timeout(), Some(at(30).steady), "not yet");
    let status = core.extended(at(11), ticket, minute + CLAIM_MARGIN, true, Outcome::Done);
    assert_eq!((status, core.next_timeout()), (Status::Ok, Some(at(71).steady)));
    let status = core.extended(at(12), ticket, minute + CLAIM_MARGIN, true, Outcome::Fenced);
    assert_eq!((status, core.next_timeout()), (Status::Expired, Some(at(71).steady)));
    // It lapses before the answer to another.
    core.tick(at(71));
    let status = core.extended(at(72), ticket, minute + CLAIM_MARGIN, true, Outcome::Done);
    assert_eq!((status, core.next_timeout()), (Status::Expired, None));
}

#[test]
fn an_extension_for_ever_is_no_reason_to_fail() {
    let mut core = core(config(Ordering::None, true), &[None]);
    let out = deliver(&mut core, at(0), 1, 1);
    assert_eq!(core.decide(at(10), out[0].lease, Decision::Extend(Duration::MAX)), None);
    let ticket = only_ticket(&mut core);
    assert_eq!(core.extended(at(10), ticket, Duration::MAX, true, Outcome::Done), Status::Ok);
    core.tick(at(1 << 40));
    assert_eq!(core.in_flight(), 1);
}

#[test]
fn while_an_acknowledgement_is_made_durable_the_same_is_unavailable_and_then_it_is_ok() {
    let mut core = core(config(Ordering::None, true), &[None]);
    let out = deliver(&mut core, at(0), 1, 1);
    assert_eq!(core.decide(at(0), out[0].lease, Decision::Ack), None);
    assert_eq!(core.decide(at(0), out[0].lease, Decision::Ack), Some(Status::Unavailable));
    assert_eq!(core.decide(at(0), out[0].lease, retry()), Some(Status::Unavailable));
    core.tick(at(1_000));
    assert_eq!(core.in_flight(), 1, "however long it takes, it does not lapse");
    let ticket = only_ticket(&mut core);
    assert_eq!(core.settled(at(1_000), ticket, Outcome::Done), Status::Ok);
    assert_eq!(core.settled(at(1_000), ticket, Outcome::Done), Status::Expired, "it is settled once");
    assert_eq!(core.decide(at(1_000), out[0].lease, Decision::Ack), Some(Status::Ok));
    assert_eq!((core.committable(), core.counters().done), (1, 1));
}

#[test]
fn to_say_again_what_was_fenced_decides_nothing() {
    let mut core = core(config(Ordering::None, true), &[None]);
    let out = deliver(&mut core, at(0), 1, 1);
    core.decide(at(0), out[0].lease, Decision::Ack);
    let ticket = only_ticket(&mut core);
    assert_eq!(core.settled(at(0), ticket, Outcome::Fenced), Status::Expired);
    assert_eq!(core.decide(at(0), out[0].lease, Decision::Ack), Some(Status::Expired));
    assert_eq!((core.committable(), effects(&mut core)), (0, vec![]));
    assert_eq!(take(&mut core)[0].own, None, "its claim is asked for anew");
}

#[test]
fn a_late_acknowledgement_completes_the_claim_that_it_was_delivered_under() {
    let mut core = core(config(Ordering::None, true), &[None]);
    let out = deliver(&mut core, at(0), 1, 1);
    core.tick(at(30));
    assert_eq!(core.decide(at(31), out[0].lease, Decision::Ack), None);
    let [Effect::Complete { claim, .. }] = effects(&mut core)[..] else { panic!() };
    assert_eq!(Some(claim), out[0].claim);
    assert_eq!(deliver(&mut core, at(32), 1, 1), [], "it is not out again meanwhile");
}

#[test]
fn what_another_is_at_is_held_and_keeps_its_key_while_others_go_on() {
    let mut core = core(config(Ordering::Key, true), &[Some(1), Some(1), Some(2)]);
    let taken = take(&mut core);
    core.held_elsewhere(taken[0].ticket, at(20).steady);
    let claim = |taken: &Taken| Some((claim_of(taken), 1, at(35).steady));
    assert_eq!(core.deliver(at(0), taken[1].ticket, claim(&taken[1]), false), None);
    assert_eq!(core.deliver(at(0), taken[2].ticket, claim(&taken[2]), false).unwrap().lease.offset, 2);
    assert_eq!((core.held(), take(&mut core)), (2, vec![]));
    core.tick(at(20));
    let taken = take(&mut core);
    assert_eq!(taken.iter().map(|taken| taken.ticket.offset).collect::<Vec<_>>(), [0, 1]);
    let own = taken[1].own.unwrap();
    assert!(taken[0].own.is_none() && !own.counted, "what was claimed in vain is not an attempt");
}

#[test]
fn what_was_done_already_is_done_and_keeps_nothing_back() {
    let mut core = core(config(Ordering::Key, true), &[Some(1), Some(1)]);
    let taken = take(&mut core);
    core.done_already(at(0), taken[0].ticket);
    let claim = Some((claim_of(&taken[1]), 1, at(35).steady));
    assert_eq!(core.deliver(at(0), taken[1].ticket, claim, false).unwrap().lease.offset, 1);
    let Counters { duplicates, done, delivered, .. } = core.counters();
    assert_eq!((core.committable(), duplicates, done, delivered), (1, 1, 1, 1));
}

#[test]
fn a_claim_of_which_nobody_knows_whether_it_holds_is_asked_for_with_the_same_token() {
    let mut core = core(config(Ordering::None, true), &[None]);
    let taken = take(&mut core);
    let tag = claim_of(&taken[0]);
    let own = Own { tag, counted: false, asked: Some(tag.token) };
    core.unreserve(taken[0].ticket, Some(own));
    assert_eq!(take(&mut core)[0].own, Some(own));
    assert_eq!(core.revoke(), [own], "and let go when the session ends");
}

#[test]
fn a_failure_counts_under_its_claim_and_a_release_and_what_is_taken_back_do_not() {
    let mut core = core(config(Ordering::Partition, true), &[None; 3]);
    let out = deliver(&mut core, at(0), 3, 1);
    core.decide(
        at(0),
        out[1].lease,
        Decision::Retry { after: Some(Duration::ZERO), failure: Failure::new("test", "") },
    );
    core.decide(at(0), out[0].lease, Decision::Release { after: Duration::ZERO });
    let counted: Vec<_> = take(&mut core).iter().map(|taken| taken.own.unwrap().counted).collect();
    assert_eq!(counted, [false, true, false]);
}
