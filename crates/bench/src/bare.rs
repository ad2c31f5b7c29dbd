//! The bare route: HTTP in front of the same producer, with nothing of the service in between. It reads
//! the same JSON, and answers each event's partition and offset; it checks nothing, adds nothing to an
//! event and bounds nothing. What the service takes beyond it is what the service's own work costs.

use crate::{
    Outcome,
    producer::{self, Batch, Place, Producer, Waiting},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{convert::Infallible, fmt::Write as _, net::Ipv4Addr};
use tokio::net::TcpListener;

/// What stands before the address in the line that says that it is ready.
pub(crate) const READY: &str = "bare route ready:";

/// Serves on a free port of the loopback until the process is killed.
pub(crate) fn serve(brokers: &str) -> Outcome<()> {
    let producer = producer::producer(brokers)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("the runtime cannot be started: {e}"))?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(|e| format!("no port can be taken: {e}"))?;
        let address = listener.local_addr().map_err(|e| format!("no address: {e}"))?;
        println!("{READY} http=http://{address}");
        loop {
            let (stream, _) = listener.accept().await.map_err(|e| format!("nothing can be accepted: {e}"))?;
            stream.set_nodelay(true).map_err(|e| format!("a connection cannot be set up: {e}"))?;
            let producer = producer.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| answer(&producer, request));
                // A client that goes away is none of our concern.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    key: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Items<'a> {
    #[serde(borrow)]
    events: Vec<Item<'a>>,
}

async fn answer(
    producer: &Producer,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match publish(producer, request).await {
        Ok(body) => Response::new(Full::from(body)),
        Err(why) => {
            let mut response = Response::new(Full::from(why));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    })
}

async fn publish(producer: &Producer, request: Request<Incoming>) -> Result<String, String> {
    let path = request.uri().path().to_owned();
    let topic = path.strip_prefix("/v1/topics/").and_then(|rest| rest.strip_suffix("/events"));
    let topic = topic.ok_or("no such path")?;
    let body = request.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    if body.starts_with(b"{\"events\"") {
        let items: Items<'_> = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        let places = append(producer, topic, &items.events).await?;
        let mut answer = String::with_capacity(32 + places.len() * 40);
        answer.push_str("{\"results\":[");
        for (index, place) in places.iter().enumerate() {
            if index > 0 {
                answer.push(',');
            }
            write_place(&mut answer, place)?;
        }
        answer.push_str("]}");
        Ok(answer)
    } else {
        let item: Item<'_> = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        let places = append(producer, topic, &[item]).await?;
        let mut answer = String::with_capacity(40);
        write_place(&mut answer, &places[0])?;
        Ok(answer)
    }
}

async fn append(producer: &Producer, topic: &str, items: &[Item<'_>]) -> Result<Vec<Place>, String> {
    let (batch, reported) = Batch::of(items.len());
    for (index, item) in items.iter().enumerate() {
        let waiting = Box::new(Waiting::Batch(batch.clone(), index));
        let value = item.data.get().as_bytes();
        // Its queue holds more than any of the loads has on its way.
        producer::send(producer, topic, item.key, value, waiting)
            .map_err(|(error, _)| producer::refused(&error))?;
    }
    reported.await.map_err(|e| e.to_string())
}

fn write_place(answer: &mut String, place: &Place) -> Result<(), String> {
    let (partition, offset) = place.as_ref().map_err(producer::refused)?;
    write!(answer, "{{\"partition\":{partition},\"offset\":{offset}}}").map_err(|e| e.to_string())
}
