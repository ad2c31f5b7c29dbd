//! `Topics`: what operators do with topics.

use crate::{
    Services, convert,
    error::status,
    proto::{
        CreateTopicRequest, DeleteTopicRequest, GetTopicRequest, ListTopicsRequest, ListTopicsResponse,
        Partition, PurgeTopicRequest, PurgeTopicResponse, Topic, TopicSchema, TopicSummary,
        UpdateTopicRequest, topics_server,
    },
};
use domain::{
    Error,
    event_schemas::{NewTopicSchema, TopicSchemaChange, TopicWithSchema},
    topics::{NewTopic, Purge, TopicChange},
};
use tonic::{Request, Response, Status};

#[derive(Clone, Debug)]
pub(crate) struct Topics(pub(crate) Services);

#[tonic::async_trait]
impl topics_server::Topics for Topics {
    async fn create_topic(&self, request: Request<CreateTopicRequest>) -> Result<Response<Topic>, Status> {
        let CreateTopicRequest { name, partitions, replication_factor, config, schema } =
            request.into_inner();
        let new = NewTopic { name, partitions, replication_factor, config: config.into_iter().collect() };
        let topic = self.0.schemas.create_topic(new, schema.map(said)).await.map_err(|e| status(&e))?;
        Ok(Response::new(shown(topic)))
    }

    async fn list_topics(
        &self,
        _request: Request<ListTopicsRequest>,
    ) -> Result<Response<ListTopicsResponse>, Status> {
        let topics = self.0.topics.list().await.map_err(|e| status(&e))?;
        let summary = |topic: ports::TopicSummary| TopicSummary {
            name: topic.name.to_string(),
            partitions: topic.partitions,
            internal: topic.internal,
            events: topic.events,
        };
        Ok(Response::new(ListTopicsResponse { topics: topics.into_iter().map(summary).collect() }))
    }

    async fn get_topic(&self, request: Request<GetTopicRequest>) -> Result<Response<Topic>, Status> {
        let topic = self.0.schemas.topic(&request.into_inner().name).await.map_err(|e| status(&e))?;
        Ok(Response::new(shown(topic)))
    }

    async fn update_topic(&self, request: Request<UpdateTopicRequest>) -> Result<Response<Topic>, Status> {
        let UpdateTopicRequest { name, partitions, config, reset_config, schema, remove_schema } =
            request.into_inner();
        let schema = match (schema, remove_schema) {
            (Some(_), true) => {
                return Err(status(&Error::invalid("remove_schema", "must not stand beside `schema`")));
            }
            (None, true) => Some(TopicSchemaChange::Nothing),
            (schema, false) => schema.map(|schema| TopicSchemaChange::Follow(said(schema))),
        };
        let set = config.into_iter().map(|(key, value)| (key, Some(value)));
        let reset = reset_config.into_iter().map(|key| (key, None));
        let change = TopicChange { partitions, config: set.chain(reset).collect() };
        let topic = self.0.schemas.alter_topic(&name, change, schema).await.map_err(|e| status(&e))?;
        Ok(Response::new(shown(topic)))
    }

    async fn delete_topic(&self, request: Request<DeleteTopicRequest>) -> Result<Response<()>, Status> {
        self.0.schemas.delete_topic(&request.into_inner().name).await.map_err(|e| status(&e))?;
        Ok(Response::new(()))
    }

    async fn purge_topic(
        &self,
        request: Request<PurgeTopicRequest>,
    ) -> Result<Response<PurgeTopicResponse>, Status> {
        let PurgeTopicRequest { name, before_time, before_offsets } = request.into_inner();
        let purge = match (before_time, before_offsets.is_empty()) {
            (None, true) => Purge::All,
            (Some(time), true) => {
                Purge::Before(convert::timestamp("before_time", time).map_err(|e| status(&e))?)
            }
            (None, false) => Purge::Offsets(
                before_offsets.into_iter().map(|(p, offset)| (p.to_string(), offset)).collect(),
            ),
            (Some(_), false) => {
                return Err(status(&Error::invalid("before_time", "must not stand beside `before_offsets`")));
            }
        };
        let earliest = self.0.topics.purge(&name, purge).await.map_err(|e| status(&e))?;
        let earliest_offsets = earliest.into_iter().map(|(p, offset)| (p, offset as i64)).collect();
        Ok(Response::new(PurgeTopicResponse { earliest_offsets }))
    }
}

/// What a topic's values are to follow; proto3 does not tell an empty subject from none.
fn said(schema: TopicSchema) -> NewTopicSchema {
    NewTopicSchema {
        subject: Some(schema.subject).filter(|subject| !subject.is_empty()),
        required: Some(schema.required),
        auto_register: Some(schema.auto_register),
    }
}

fn shown(TopicWithSchema { info, schema }: TopicWithSchema) -> Topic {
    let partition = |partition: ports::PartitionInfo| Partition {
        partition: partition.partition,
        leader: partition.leader,
        replicas: partition.replicas,
        in_sync_replicas: partition.in_sync_replicas,
        earliest_offset: partition.earliest as i64,
        latest_offset: partition.latest as i64,
    };
    Topic {
        name: info.name.to_string(),
        partitions: info.partitions.into_iter().map(partition).collect(),
        config: info.config.into_iter().collect(),
        schema: schema.map(|schema| TopicSchema {
            subject: schema.subject.clone(),
            required: schema.required,
            auto_register: schema.auto_register,
        }),
    }
}
