//! A publisher over one gRPC stream: a window of messages on their way, answered in their order.

use super::{AGAIN, Outcome, Shared, TOPIC, flights, ledger::Way};
use api_grpc::proto::{
    Event, PublishStreamRequest, PublishStreamResponse, Receipt, publish_result::Outcome as Published,
    publisher_client::PublisherClient,
};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

/// The events of one message.
const MESSAGE: usize = 10;
/// The most messages on their way.
const WINDOW: usize = 10;

/// Publishes these departures in their order.
pub(super) async fn publish(shared: Arc<Shared>, numbers: Vec<usize>) -> Outcome<()> {
    let mut left: VecDeque<Vec<usize>> = numbers.chunks(MESSAGE).map(<[usize]>::to_vec).collect();
    while !left.is_empty() {
        // A stream that broke says nothing about what was on its way: it is all sent again, in order.
        if let Err(status) = stream(&shared, &mut left).await {
            match status.code() {
                Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => {}
                _ => return Err(format!("publishing over gRPC: {status}")),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
    Ok(())
}

/// Sends what is left over one stream, and takes away what was acknowledged, until nothing is left or the
/// stream breaks.
async fn stream(shared: &Shared, left: &mut VecDeque<Vec<usize>>) -> Result<(), Status> {
    let endpoint = Channel::from_shared(shared.addresses().grpc);
    let endpoint = endpoint.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let channel = endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut client = PublisherClient::new(channel);
    let (send, messages) = mpsc::channel(WINDOW);
    let mut answers = client.publish_stream(ReceiverStream::new(messages)).await?.into_inner();
    // The first so many of what is left are on their way.
    let mut on_the_way = 0;
    loop {
        while on_the_way < WINDOW && on_the_way < left.len() {
            let numbers = &left[on_the_way];
            shared.ledger.sent(numbers);
            let events = numbers.iter().map(|&number| event(shared, number)).collect();
            let message = PublishStreamRequest { topic: TOPIC.to_owned(), events };
            send.send(message).await.map_err(|_| Status::unavailable("the stream is closed"))?;
            on_the_way += 1;
        }
        let Some(numbers) = left.front() else { return Ok(()) };
        let Some(answer) = answers.message().await? else {
            return Err(Status::unavailable("the stream has ended"));
        };
        acknowledge(shared, numbers, answer)?;
        left.pop_front();
        on_the_way -= 1;
    }
}

fn acknowledge(shared: &Shared, numbers: &[usize], answer: PublishStreamResponse) -> Result<(), Status> {
    if answer.results.len() != numbers.len() {
        let counts = format!("{} results for {} events", answer.results.len(), numbers.len());
        return Err(Status::data_loss(counts));
    }
    for (&sent, result) in numbers.iter().zip(answer.results) {
        match result.outcome {
            Some(Published::Receipt(receipt)) if flights::number(&receipt.id) == Some(sent) => {
                let Receipt { partition, offset, .. } = receipt;
                shared.ledger.acknowledged(Way::Grpc, sent, (u64::from(partition), offset as u64));
            }
            // What follows in the window may be there already, so that this one would come out of order.
            other => return Err(Status::data_loss(format!("{} was answered: {other:?}", flights::id(sent)))),
        }
    }
    Ok(())
}

fn event(shared: &Shared, number: usize) -> Event {
    let flight = &shared.flights[number];
    Event {
        id: Some(flights::id(number)),
        r#type: Some("flight.departed".to_owned()),
        source: Some("/new-york".to_owned()),
        key: flight.aircraft.as_ref().map(|aircraft| aircraft.clone().into()),
        data: Some(flight.data.to_string().into()),
        datacontenttype: Some("application/json".to_owned()),
        ..Event::default()
    }
}
