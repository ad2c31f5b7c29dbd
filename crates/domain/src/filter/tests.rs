use super::*;
use ports::{Header, Record, Timestamp};
use proptest::prelude::*;

fn header(name: &'static str, value: &'static [u8]) -> Header {
    Header::new(name, Bytes::from_static(value))
}

fn event() -> StoredRecord {
    let headers = vec![
        header("ce_specversion", b"1.0"),
        header("ce_id", b"e-1"),
        header("ce_source", b"/shop"),
        header("ce_type", b"order.created"),
        header("ce_time", b"2026-02-03T04:05:06.789Z"),
        header("ce_tenantid", b"acme"),
        header("ce_region", b"eu"),
        header("ce_region", b"us"),
        header("ce_type", b"a second one stays a header"),
        header("trace", b"t-1"),
        header("hop", b"a"),
        header("hop", b"b"),
        header("raw", b"\xFF\xFE"),
        Header { name: "none".into(), value: None },
        header("x-flag", b"on"),
    ];
    let data = br#"{"total": 12, "big": 18446744073709551615, "price": 2.5, "name": "caf\u00e9", "none": null,
        "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 20}, {"sku": "c"}], "tags": ["x", "y"], "ok": true}"#;
    let record = Record {
        key: Some(Bytes::from_static(b"k-7")),
        value: Some(Bytes::from_static(data)),
        headers,
        timestamp: Timestamp(1_700_000_000_123),
    };
    StoredRecord { offset: 42, record }
}

fn filter(text: &str) -> Filter {
    Filter::compile(text, &FilterLimits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn matches(text: &str, record: &StoredRecord) -> Result<bool, String> {
    filter(text).matches(&FilterInput {
        topic: "orders",
        partition: 3,
        record,
        decoded: None,
        metadata: None,
    })
}

fn refused(text: &str) -> FilterError {
    match Filter::compile(text, &FilterLimits::default()) {
        Ok(_) => panic!("{} was taken", text.chars().take(60).collect::<String>()),
        Err(error) => error,
    }
}

#[test]
fn expressions_say_what_they_say() {
    let event = event();
    let mut wrong = Vec::new();
    for (text, expected) in [
        // Names.
        ("id == 'e-1' && source == '/shop' && type == 'order.created'", true),
        ("subject == null && userid == null && correlationid == null && causationid == null", true),
        ("subject == 'x'", false),
        ("subject != null && subject.startsWith('x')", false),
        ("tenantid == 'acme' && topic == 'orders' && partition == 3 && offset == 42", true),
        ("time == timestamp('2026-02-03T04:05:06.789Z')", true),
        ("time > timestamp('2026-01-01T00:00:00Z') && time < timestamp('2026-02-03T05:05:07+01:00')", true),
        ("timestamp == timestamp('2023-11-14T22:13:20.123Z')", true),
        ("extensions.region == 'eu' && size(extensions) == 1", true),
        ("has(extensions.region) && !has(extensions.zone)", true),
        ("headers.trace == 't-1' && headers['x-flag'] == 'on' && headers.`x-flag` == 'on'", true),
        ("headers.hop == ['a', 'b'] && 'b' in headers.hop", true),
        (r"headers.raw == b'\xff\xfe' && headers.none == null && has(headers.none)", true),
        ("'trace' in headers && !('nothing' in headers)", true),
        ("headers.ce_type == 'a second one stays a header'", true),
        ("key == 'k-7' && key.size() == 3", true),
        ("data.total == 12 && data.price == 2.5 && data.ok && data.none == null", true),
        ("data.big == 18446744073709551615u && data.big > 1", true),
        ("size(data.name) == 4 && size(bytes(data.name)) == 5", true),
        ("has(data.total) && !has(data.missing)", true),
        ("data['items'][1].sku == 'b' && data.items[0u].n == 1.0", true),
        // Comprehensions.
        ("data.items.exists(i, i.sku == 'b')", true),
        ("data.items.exists(i, i.n > 10)", true),
        ("data.items.all(i, i.n > 10)", false),
        ("data.items.exists_one(i, i.sku == 'a')", true),
        ("data.items.filter(i, has(i.n)).map(i, i.n) == [1, 20]", true),
        ("data.items.map(i, has(i.n), i.n * 2) == [2, 40]", true),
        ("data.tags.all(t, data.items.exists(i, i.sku != t))", true),
        ("data.exists(name, name == 'total')", true),
        ("[1, 2].exists(type, type == 2 && .type == 'order.created')", true),
        ("[1, 2].all(x, [3].exists(y, y > x)) && type == 'order.created'", true),
        // Operators.
        ("1 + 2 * 3 - 4 / 2 == 5 && 7 % 3 == 1 && -7 / 2 == -3 && -(1) < 0", true),
        ("1 == 1.0 && 1u == 1 && 1 < 1.5 && 2u > 1.5 && 1 != 'a'", true),
        ("9223372036854775807 < 9223372036854775808u && 9007199254740993 != 9007199254740992.0", true),
        ("'a' + 'b' == 'ab' && [1] + [2] == [1, 2] && b'a' + b'b' == b'ab'", true),
        ("{'a': 1, 'b': [2]} == {'b': [2], 'a': 1} && {'a': 1}.a == 1 && {1: 'x'}[1u] == 'x'", true),
        (
            "2 in [1, 2] && !(3 in [1, 2]) && 'a' in {'a': 1} && 20 in data.items.map(i, has(i.n) ? i.n : 0)",
            true,
        ),
        ("true ? false : true", false),
        ("0.0 / 0.0 == 0.0 / 0.0 || 0.0 / 0.0 < 1.0", false),
        ("'a' < 'b' && b'a' < b'b' && false < true && null == null", true),
        // What decides, decides, on either side of an error.
        ("data.nothing == 1 || true", true),
        ("true || data.nothing == 1", true),
        ("data.nothing == 1 && false", false),
        ("[0, 1].exists(x, 1 / x == 1)", true),
        ("[0, 1].all(x, 1 / x == 2)", false),
        // Functions.
        ("type.startsWith('order.') && type.endsWith('created') && type.contains('er.cr')", true),
        (r"type.matches('^order\\.[a-z]+$') && matches(type, 'created') && !type.matches(r'^\d')", true),
        (
            "int('12') == 12 && int(2.9) == 2 && int(-2.9) == -2 && uint(3) == 3u && double('1.5') == 1.5",
            true,
        ),
        (
            "string(12) == '12' && string(true) == 'true' && string(b'a') == 'a' && bool('true') && dyn(1) == 1",
            true,
        ),
        ("string(timestamp('2026-02-03T04:05:06Z')) == '2026-02-03T04:05:06Z'", true),
        ("string(duration('1h1m1.5s')) == '3661.5s' && string(duration('-0.5s')) == '-0.5s'", true),
        ("time - timestamp('2026-02-03T04:05:06Z') == duration('789ms')", true),
        (
            "time + duration('1h') > time && time - duration('1h') < time && int(timestamp) == 1700000000",
            true,
        ),
        ("timestamp(0).getFullYear() == 1970 && time.getMonth() == 1 && time.getDate() == 3", true),
        ("time.getDayOfMonth() == 2 && time.getDayOfWeek() == 2 && time.getDayOfYear() == 33", true),
        ("time.getHours() == 4 && time.getMinutes() == 5 && time.getSeconds() == 6", true),
        ("time.getMilliseconds() == 789 && duration('90m').getHours() == 1", true),
        ("duration('90m').getMinutes() == 90 && duration('90m').getSeconds() == 5400", true),
    ] {
        let is = matches(text, &event);
        if is != Ok(expected) {
            wrong.push((text, is));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_error_in_evaluation_is_said_in_a_sentence_and_is_no_match() {
    let event = event();
    let mut wrong = Vec::new();
    for (text, expected) in [
        ("data.nothing == 1", "there is no field `nothing`; ask with has()"),
        ("data.total.x == 1", "an int has no field `x`"),
        ("has(data.total.x)", "an int has no field `x`"),
        ("data['nothing'] == 1", "there is no key `nothing`"),
        ("data.items[7] == 1", "beyond the list, which has 3"),
        ("data.items[-1] == 1", "beyond the list"),
        ("data.items['a'] == 1", "a string is no index"),
        ("subject.startsWith('x')", "startsWith() takes strings, not null and a string"),
        ("data.total", "gives an int where it must give true or false"),
        ("data", "gives a map where"),
        ("!data.total", "`!` takes a bool, not an int"),
        ("data.total && true", "`&&` takes a bool, not an int"),
        ("data.total ? true : false", "must be a bool, not an int"),
        ("data.total < 'a'", "an int and a string have no order"),
        ("1 / (offset - 42) == 1", "divided by zero"),
        ("9223372036854775807 + offset == 1", "`+` is beyond the range"),
        ("-(data.total - 9223372036854775807 - 13) == 1", "beyond the range"),
        ("1 + 1.0 == 2.0", "`+` does not take an int and a double"),
        ("1 in data.total", "`in` takes a list or a map, not an int"),
        ("data.total.exists(x, true)", "an int has no elements to go through"),
        ("data.tags.all(t, t)", "a condition takes a bool, not a string"),
        ("[0, 2].exists(x, 1 / x == 1)", "divided by zero"),
        ("{data.items: 1} == {}", "a list cannot be the key of a map"),
        ("{'a': 1, data.tags[0] == 'x' ? 'a' : 'b': 2} == {}", "a map names a key twice"),
        ("int('x') == 1", "no whole number"),
        ("uint(-1) == 1u", "out of range"),
        ("timestamp(data.name) == time", "RFC 3339"),
        ("duration(data.name) == duration('1s')", "numbers with units"),
        ("time + duration('90000000h') > time", "beyond the range"),
        ("data.total.matches('1')", "matches() takes a string, not an int"),
        ("string(data) == ''", "string() does not take a map"),
        ("key.getHours() == 1", "getHours() does not take a string"),
    ] {
        let is = matches(text, &event);
        if !is.as_ref().is_err_and(|reason| reason.contains(expected)) {
            wrong.push((text, expected, is));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_wrong_in_an_expression_is_said_with_its_place() {
    let mut wrong = Vec::new();
    for (text, line, column, expected) in [
        ("", 1, 1, "is empty"),
        (" \n", 1, 1, "is empty"),
        ("typ == 'a'", 1, 1, "`typ` is not known; did you mean `type`?"),
        ("true &&\n  tenantId == 'a'", 2, 3, "did you mean `tenantid`?"),
        ("'é' == quantity", 1, 8, "`quantity` is not known; there are: id, source, type"),
        ("[1].exists(item, itm > 0)", 1, 18, "did you mean `item`?"),
        ("type == ", 1, 9, "ends where something is still missing"),
        ("type == 'a' )", 1, 13, "`)` is not expected here"),
        ("(type == 'a'", 1, 13, "`)` is missing"),
        ("type == 'a", 1, 9, "cannot be read"),
        ("type = 'a'", 1, 6, "cannot be read"),
        ("type == 99999999999999999999", 1, 9, "invalid int literal"),
        ("type.startWith('a')", 1, 15, "no function `startWith`; did you mean `startsWith`?"),
        ("frobnicate(type)", 1, 11, "no function `frobnicate`"),
        ("startsWith(type, 'a')", 1, 11, "is called as x.startsWith(y)"),
        ("type.startsWith()", 1, 16, "is called as x.startsWith(y)"),
        ("type.size(1) == 1", 1, 10, "is called as size(x)"),
        ("has(type)", 1, 5, "an attribute that is missing is null"),
        ("data.exists(x, 1, true, 2)", 1, 12, "as in data.items.exists(i, i.price > 10)"),
        ("type.matches('(')", 1, 14, "the pattern of matches() is wrong: unclosed group"),
        ("type.matches(subject)", 1, 14, "must be a literal string"),
        (r"type.matches('(\\w{99}){99}')", 1, 14, "too large"),
        ("time > timestamp('yesterday')", 1, 17, "RFC 3339"),
        ("time - time > duration('1 week')", 1, 23, "numbers with units"),
        ("Order{id: 1} == 1", 1, 6, "messages are not known"),
        ("type", 1, 1, "always a string"),
        ("1 + 1", 1, 1, "always what is calculated"),
        ("data.map(x, x)", 1, 1, "always a list"),
    ] {
        let error = refused(text);
        assert!(error.to_string().starts_with(&format!("line {}, column {}: ", error.line, error.column)));
        if !error.message.contains(expected) || (error.line, error.column) != (line, column) {
            wrong.push((text, (line, column, expected), error));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_value_is_read_only_where_the_expression_comes_to_it() {
    let mut event = event();
    assert!(filter("type == 'a' || data.x == 1").needs_data());
    assert!(!filter("type == 'a' || 'data' == key").needs_data());
    event.record.value = Some(Bytes::from_static(b"{no json"));
    assert_eq!(matches("type == 'order.created'", &event), Ok(true));
    assert_eq!(matches("type == 'other' && data.x == 1", &event), Ok(false));
    assert!(matches("data.x == 1", &event).unwrap_err().starts_with("data is not JSON: "));
    event.record.value = None;
    assert_eq!(matches("data == null", &event), Ok(true));
    event.record.value = Some(Bytes::from(format!("[{}1]", "1,".repeat(1 << 20))));
    assert!(matches("data[0] == 1", &event).unwrap_err().contains("at most 1048576 are read"));
}

#[test]
fn keys_that_are_not_text_are_bytes_and_a_missing_key_is_null() {
    let mut event = event();
    event.record.key = Some(Bytes::from_static(b"\xFF\x00"));
    assert_eq!(matches(r"key == b'\xff\x00'", &event), Ok(true));
    event.record.key = None;
    assert_eq!(matches("key == null", &event), Ok(true));
    event.record.key = Some(Bytes::new());
    assert_eq!(matches("key == '' && key != null", &event), Ok(true));
}

#[test]
fn a_foreign_record_has_null_where_it_has_no_attributes() {
    let record = Record { timestamp: Timestamp(-1), ..Record::default() };
    let event = StoredRecord { offset: 0, record };
    let text =
        "type == null && time == null && key == null && data == null && headers == {} && extensions == {}";
    assert_eq!(matches(text, &event), Ok(true));
    assert_eq!(matches("timestamp < timestamp(0)", &event), Ok(true));
    let record = Record { timestamp: Timestamp(i64::MAX), ..Record::default() };
    assert!(matches("timestamp > timestamp(0)", &StoredRecord { offset: 0, record }).is_err());
}

#[test]
fn a_key_expression_gives_bytes_that_tell_events_apart() {
    let mut event = event();
    let key = |text: &str, event: &StoredRecord| {
        let expression = KeyExpression::compile(text, &FilterLimits::default()).unwrap();
        expression.evaluate(&FilterInput {
            topic: "orders",
            partition: 3,
            record: event,
            decoded: None,
            metadata: None,
        })
    };
    for (text, expected) in [
        ("id", &b"e-1"[..]),
        ("tenantid + ':' + string(data.total)", b"acme:12"),
        ("data.total", b"12"),
        ("data.big", b"18446744073709551615"),
        ("headers.raw", b"\xFF\xFE"),
        ("time", b"2026-02-03T04:05:06.789Z"),
        ("data.ok", b"true"),
        ("has(data.nothing) ? data.nothing : key", b"k-7"),
    ] {
        assert_eq!(key(text, &event).as_deref(), Ok(expected), "{text}");
    }
    assert!(key("subject", &event).unwrap_err().contains("the key is null"));
    assert!(key("data.items", &event).unwrap_err().contains("the key is a list"));
    assert!(key("data.nothing", &event).unwrap_err().contains("no field"));
    event.record.key = Some(Bytes::new());
    assert_eq!(key("key", &event).unwrap_err(), "the key is empty");
    event.record.key = Some(Bytes::from(vec![b'x'; 1025]));
    assert!(key("key", &event).unwrap_err().contains("at most 1024"));
}

#[test]
fn what_is_nested_too_deep_or_too_long_is_refused_before_it_can_harm() {
    let nested = |open: &str, middle: &str, close: &str, count: usize| {
        format!("{}{middle}{}", open.repeat(count), close.repeat(count))
    };
    for text in [
        nested("(", "true", ")", 2000),
        nested("[", "", "]", 2000),
        nested("{1:", "1", "}", 1000),
        nested("!(", "true", ")", 1300),
        nested("[1].all(x,", "true", ")", 300),
        nested("true ? true : ", "true", "", 250),
        nested("r'\\' == '' || (", "true", ")", 200),
        nested("size(", "1", ")", 600),
    ] {
        let error = refused(&text);
        assert!(error.message.contains("nested deeper than 32"), "{}…: {error}", &text[..20]);
    }
    for text in [
        format!("1{} > 0", " + 1".repeat(1000)),
        format!("data{} == 1", ".a".repeat(2000)),
        format!("has(data{})", ".a".repeat(2000)),
        format!("data{} == 1", "[0]".repeat(1300)),
        format!("data{} == []", ".map(x, x)".repeat(400)),
        "[".repeat(4000),
        ")".repeat(4000),
        "@#$ ".repeat(1000),
        "type type ".repeat(400),
        format!("'{}", "a".repeat(4000)),
        nested("true ? ", "true", " : false", 200),
    ] {
        refused(&text);
    }
    assert!(refused(&format!("type == '{}'", "x".repeat(5000))).message.contains("at most 4096 are taken"));
    let limits =
        FilterLimits { text_bytes_max: usize::MAX, nesting_max: usize::MAX, ..FilterLimits::default() };
    let longest = |unit: &str| unit.repeat(8192 / unit.len());
    for text in [
        longest("1+"),
        longest("a<"),
        longest("a."),
        longest("!"),
        longest("("),
        longest("a?"),
        longest("[0]"),
    ] {
        assert!(Filter::compile(&text, &limits).is_err());
    }
    // Patterns have one bound together, so that many are no way around it.
    let many = |pattern: &str, count: usize| vec![format!(r"type.matches('{pattern}')"); count].join(" || ");
    assert!(refused(&many(r"\\w{8}", 60)).message.contains("too large together"));
    assert!(!filter(&many("^order", 60)).needs_data());
    // Pairs of signs cancel each other out.
    for text in [format!("{}true", "!".repeat(4000)), format!("1 == {}1", "-".repeat(4000))] {
        assert_eq!(matches(&text, &event()), Ok(true));
    }
    // What people write is far from the bounds.
    let any_of = (0..150).map(|i| format!("subject == 's-{i}'")).collect::<Vec<_>>().join(" || ");
    assert!(!filter(&any_of).needs_data());
}

#[test]
fn what_costs_too_much_is_stopped_whatever_it_is_made_of() {
    let mut event = event();
    event.record.value = Some(format!("[{}1]", "1,".repeat(5000)).into());
    let doubling = format!("data{}.size() == 0", ".map(x, string(x) + string(x))".repeat(60));
    let growing = format!("[[1]]{} == []", ".map(l, l + l)".repeat(100));
    for text in [
        "data.all(a, data.all(b, a == b))",
        "data.all(a, data.all(b, data.all(c, a + b + c > 0)))",
        "data.map(x, data).map(l, l.size() > 0).all(x, !data.exists(y, y == 2))",
        "data.map(x, data).all(l, l == data)",
        // No operator makes something of it.
        "data.all(a, data.all(b, a == b)) || true",
        "data.exists(a, data.all(b, a == b) && false) || true",
        "false && true || data.all(a, data.all(b, a == b)) && false",
        &growing,
    ] {
        let reason = matches(text, &event).expect_err(text);
        assert_eq!(reason, "evaluating costs more than 200000", "{text}");
    }
    assert!(matches(&doubling, &event).unwrap_err().contains("costs more"));
    event.record.key = Some("a".repeat(60_000).into());
    assert!(matches(r"key.matches('(a|aa)+\\w{8}$')", &event).unwrap_err().contains("costs more"));
    assert_eq!(matches("key.matches('^a+$')", &event), Ok(true));
    assert!(
        matches("data.exists(x, key.contains('b' + string(x)))", &event).unwrap_err().contains("costs more")
    );
}

#[test]
fn filters_are_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + fmt::Debug + 'static>() {}
    shared::<Filter>();
    shared::<KeyExpression>();
}

/// Expressions of parts that go together more or less.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "true",
            "null",
            "1",
            "-1",
            "2u",
            "1.5",
            "'a'",
            "b'\\xff'",
            "0",
            "type",
            "key",
            "data",
            "headers",
            "time",
            "extensions",
            "data.items",
            "data.tags",
            "x",
            "[]",
            "{}",
            "9223372036854775807",
            "duration('1s')",
            "data.total",
            "''",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operator =
            prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "in"]);
        let function = prop::sample::select(vec![
            "size",
            "int",
            "uint",
            "double",
            "string",
            "bytes",
            "bool",
            "timestamp",
            "duration",
            "dyn",
            "nothing",
        ]);
        let method = prop::sample::select(vec![
            "contains",
            "startsWith",
            "endsWith",
            "matches",
            "getHours",
            "getDayOfYear",
            "getMilliseconds",
            "size",
        ]);
        let walk = prop::sample::select(vec!["all", "exists", "exists_one", "map", "filter"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("({a} {o} {b})")),
            (function, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            (inner.clone(), method, inner.clone()).prop_map(|(a, m, b)| format!("{a}.{m}({b})")),
            (inner.clone(), walk, inner.clone()).prop_map(|(a, w, b)| format!("{a}.{w}(x, {b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            inner.clone().prop_map(|a| format!("has({a}.f)")),
            inner.prop_map(|a| format!("!{a}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_expression_ends_in_an_answer_or_in_an_error(text in expression(), key in prop::collection::vec(any::<u8>(), 0..9)) {
        let mut event = event();
        event.record.key = Some(key.into());
        let limits = FilterLimits { cost_max: 5000, ..FilterLimits::default() };
        let input = FilterInput { topic: "t", partition: 0, record: &event, decoded: None, metadata: None };
        if let Ok(filter) = Filter::compile(&text, &limits) {
            let _ = filter.matches(&input);
        }
        if let Ok(key) = KeyExpression::compile(&text, &limits) {
            let _ = key.evaluate(&input);
        }
    }

    #[test]
    fn any_text_is_refused_or_taken(text in prop_oneof![
        ".{0,60}",
        "[a-z0-9 ().,'\"\\[\\]{}?:!&|<>=+*/%@`\\\\#\n-]{0,60}",
        "(type|data|key|'a'|1|==|&&|\\.|\\(|\\)|\\[|\\]|\\?|:|has|all|,| |x){0,25}",
    ]) {
        if let Err(error) = Filter::compile(&text, &FilterLimits::default()) {
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert!((1..=lines.len()).contains(&error.line), "{error}");
            prop_assert!(error.column >= 1 && error.column <= lines[error.line - 1].chars().count() + 1, "{error}");
            prop_assert!(!error.message.is_empty() && !error.message.contains('\n'));
        }
    }

    #[test]
    fn any_record_is_looked_at_without_harm(
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        value in prop::option::of(prop_oneof!["[\\[\\]{}0-9\",:truefalsn.eE-]{0,30}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..20)]),
        names in prop::collection::vec("(ce_)?(type|time|id|region|x)", 0..6),
        bytes in prop::collection::vec(any::<u8>(), 0..9),
        timestamp in any::<i64>(),
        offset in any::<u64>(),
    ) {
        let headers = names.into_iter().map(|name| Header::new(name, bytes.clone())).collect();
        let record = Record { key: key.map(Bytes::from), value: value.map(Bytes::from), headers, timestamp: Timestamp(timestamp) };
        let event = StoredRecord { offset, record };
        for text in [
            "type == 'a' || key == 'b' || time > timestamp || offset < 0",
            "data == null || data.exists(x, x == 1) || data > 1",
            "headers.exists(h, headers[h] == '') || extensions.region == 'a' || id == ''",
        ] {
            let _ = matches(text, &event);
        }
    }
}
