//! Names that resolve to what they must not.

use super::*;
use names::Answers;
use ports::{Effect, ErrorKind};
use std::{net::IpAddr, time::Duration};
use tokio::net::TcpListener;

mod names {
    use super::{Resolve, async_trait};
    use std::{
        collections::VecDeque,
        io,
        net::IpAddr,
        sync::{Mutex, PoisonError},
    };

    /// A name server that answers what it was told to, one lookup after another.
    #[derive(Debug, Default)]
    pub(super) struct Answers(Mutex<VecDeque<Vec<IpAddr>>>);

    impl Answers {
        pub(super) fn new(answers: &[&[&str]]) -> Self {
            let answers = answers.iter().map(|one| one.iter().map(|ip| ip.parse().unwrap()).collect());
            Self(Mutex::new(answers.collect()))
        }
    }

    #[async_trait]
    impl Resolve for Answers {
        async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
            let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            next.ok_or_else(|| io::Error::other("asked too often"))
        }
    }
}

fn client(answers: &[&[&str]], allow: &[&str]) -> HttpWebhooks {
    let config = WebhookConfig {
        allow: AllowList::parse(allow).unwrap(),
        connect_timeout: Duration::from_secs(5),
        ..WebhookConfig::default()
    };
    HttpWebhooks::with_resolver(config, Arc::new(Answers::new(answers))).unwrap()
}

fn request(url: String) -> WebhookRequest {
    WebhookRequest { url, headers: Vec::new(), body: Bytes::new(), timeout: Duration::from_secs(10) }
}

#[tokio::test]
async fn a_name_whose_addresses_must_not_be_reached_is_denied() {
    for addresses in
        [&["127.0.0.1"][..], &["169.254.169.254", "::1"], &["::ffff:10.0.0.1"], &["64:ff9b::7f00:1"]]
    {
        let error = client(&[addresses], &[]).post(request("http://evil.example/".into())).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Denied, Effect::None), "{addresses:?}");
        let shown = error.to_string();
        assert!(shown.contains("evil.example") && shown.contains("webhooks.allow"), "{shown}");
        let tells = addresses.iter().any(|address| shown.contains(address));
        assert!(!tells, "what a name resolves to inside is not told: {shown}");
    }
}

#[tokio::test]
async fn a_name_that_answers_differently_the_next_time_gains_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The first answer is public, and nobody is there; whoever asked again would get this host.
    let client = client(&[&["192.0.2.1"], &["127.0.0.1"]], &["192.0.2.0/24"]);
    let short = WebhookRequest {
        timeout: Duration::from_millis(200),
        ..request(format!("http://evil.example:{port}/"))
    };
    let first = client.post(short.clone()).await.unwrap_err();
    assert_eq!((first.kind(), first.effect()), (ErrorKind::Unavailable, Effect::None), "{first}");
    let second = client.post(short).await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Denied);
    assert!(futures::poll!(std::pin::pin!(listener.accept())).is_pending(), "this host was reached");
}

#[tokio::test]
async fn of_several_addresses_those_that_may_be_reached_are_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://mixed.example:{port}/");
    let client = client(&[&["10.0.0.1", "::1", "127.0.0.1"]], &["127.0.0.1"]);
    let (accepted, _) = tokio::join!(listener.accept(), async {
        let short = WebhookRequest { timeout: Duration::from_millis(300), ..request(url) };
        client.post(short).await
    });
    assert_eq!(accepted.unwrap().1.ip(), IpAddr::from([127, 0, 0, 1]));
}

#[tokio::test]
async fn a_host_on_the_allow_list_may_resolve_to_anything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = client(&[&["127.0.0.1"]], &["*.internal"]);
    let short = WebhookRequest {
        timeout: Duration::from_millis(300),
        ..request(format!("http://hooks.internal:{port}/"))
    };
    let error = client.post(short).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::Unknown), "{error}");
}

#[tokio::test]
async fn a_name_without_an_address_reaches_nobody() {
    let client = client(&[&[]], &[]);
    for url in ["http://nowhere.example/", "http://nowhere.example/again"] {
        let error = client.post(request(url.into())).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::None), "{error}");
    }
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_is_named() {
    let client = client(&[], &[]);
    let headers = vec![("a\r\nb".to_owned(), "hunter2".to_owned())];
    let error =
        client.post(WebhookRequest { headers, ..request("http://a.example/".into()) }).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Invalid, Effect::None));
    assert!(!error.to_string().contains("hunter2"));
}
