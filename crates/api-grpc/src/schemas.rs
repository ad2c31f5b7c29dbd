//! `Schemas`: the registry.

use crate::{
    Services,
    error::status,
    proto::{self, schemas_server},
};
use domain::{
    Error,
    schemas::{
        SchemaType,
        registry::{
            Against, Config, Deleted, Mode, NewReference, NewSchema, Page, Position, Registered, Schema,
            SchemaError, SubjectPrefix, VersionSelector, level_from_name,
        },
    },
};
use ports::SchemaId;
use tonic::{Request, Response, Status};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub(crate) struct Schemas(pub(crate) Services);

/// The status of a call that the registry refused.
#[allow(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn refused(error: SchemaError) -> Status {
    status(&Error::from(error))
}

#[tonic::async_trait]
impl schemas_server::Schemas for Schemas {
    async fn register_schema(
        &self,
        request: Request<proto::RegisterSchemaRequest>,
    ) -> Result<Response<proto::SchemaVersion>, Status> {
        let request = request.into_inner();
        let schema = new_schema(request.schema)?;
        let position = Position { id: request.id.map(SchemaId), version: request.version };
        let registered = self.0.registry.register(&request.subject, &schema, position, request.normalize);
        registered.await.map(|it| Response::new(version(&it))).map_err(refused)
    }

    async fn lookup_schema(
        &self,
        request: Request<proto::LookupSchemaRequest>,
    ) -> Result<Response<proto::SchemaVersion>, Status> {
        let request = request.into_inner();
        let schema = new_schema(request.schema)?;
        let found = self.0.registry.lookup(&request.subject, &schema, request.normalize, request.deleted);
        found.await.map(|it| Response::new(version(&it))).map_err(refused)
    }

    async fn get_schema(
        &self,
        request: Request<proto::GetSchemaRequest>,
    ) -> Result<Response<proto::Schema>, Status> {
        use proto::get_schema_request::Of;
        let request = request.into_inner();
        let found = match request.of {
            Some(Of::Id(id)) => self.0.registry.by_id(SchemaId(id), request.subject.as_deref()).await,
            Some(Of::Guid(guid)) => {
                let guid = Uuid::try_parse(&guid).map_err(|_| {
                    status(&Error::invalid("guid", "must be a GUID, as `GetSchema` gives it"))
                })?;
                self.0.registry.by_guid(guid).await
            }
            None => return Err(status(&Error::invalid("of", "is missing: give an `id` or a `guid`"))),
        };
        found.map(|it| Response::new(schema(&it))).map_err(refused)
    }

    async fn get_schema_version(
        &self,
        request: Request<proto::GetSchemaVersionRequest>,
    ) -> Result<Response<proto::SchemaVersion>, Status> {
        let request = request.into_inner();
        let found = self.0.registry.version(&request.subject, selector(request.version), request.deleted);
        found.await.map(|it| Response::new(version(&it))).map_err(refused)
    }

    async fn list_subjects(
        &self,
        request: Request<proto::ListSubjectsRequest>,
    ) -> Result<Response<proto::ListSubjectsResponse>, Status> {
        let request = request.into_inner();
        let prefix = request.prefix.as_deref().map_or(Ok(SubjectPrefix::all()), SubjectPrefix::parse);
        let limit = (request.limit > 0).then_some(request.limit as usize);
        let page = Page { offset: request.offset as usize, limit };
        let listed = self.0.registry.subjects(&prefix.map_err(refused)?, with(request.deleted), page).await;
        Ok(Response::new(proto::ListSubjectsResponse { subjects: listed.map_err(refused)? }))
    }

    async fn list_schema_versions(
        &self,
        request: Request<proto::ListSchemaVersionsRequest>,
    ) -> Result<Response<proto::ListSchemaVersionsResponse>, Status> {
        let request = request.into_inner();
        let listed = self.0.registry.versions(&request.subject, with(request.deleted), Page::default()).await;
        Ok(Response::new(proto::ListSchemaVersionsResponse { versions: listed.map_err(refused)? }))
    }

    async fn delete_subject(
        &self,
        request: Request<proto::DeleteSubjectRequest>,
    ) -> Result<Response<proto::DeleteSubjectResponse>, Status> {
        let request = request.into_inner();
        let deleted = self.0.registry.delete_subject(&request.subject, request.permanent).await;
        Ok(Response::new(proto::DeleteSubjectResponse { versions: deleted.map_err(refused)? }))
    }

    async fn delete_schema_version(
        &self,
        request: Request<proto::DeleteSchemaVersionRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let version = selector(request.version);
        let deleted = self.0.registry.delete_version(&request.subject, version, request.permanent).await;
        deleted.map(|_| Response::new(())).map_err(refused)
    }

    async fn check_compatibility(
        &self,
        request: Request<proto::CheckCompatibilityRequest>,
    ) -> Result<Response<proto::CheckCompatibilityResponse>, Status> {
        let request = request.into_inner();
        let schema = new_schema(request.schema)?;
        let against = request.version.map_or(Against::Level, |version| Against::Version(selector(version)));
        let checked = self.0.registry.check(&request.subject, &schema, against, request.normalize).await;
        let checked = checked.map_err(refused)?;
        let (compatible, messages) = (checked.is_compatible, checked.messages);
        Ok(Response::new(proto::CheckCompatibilityResponse { compatible, messages }))
    }

    async fn get_schema_settings(
        &self,
        request: Request<proto::GetSchemaSettingsRequest>,
    ) -> Result<Response<proto::SchemaSettings>, Status> {
        self.settings(request.into_inner().subject.as_deref()).await
    }

    async fn update_schema_settings(
        &self,
        request: Request<proto::UpdateSchemaSettingsRequest>,
    ) -> Result<Response<proto::SchemaSettings>, Status> {
        let request = request.into_inner();
        let subject = request.subject.as_deref();
        // Both are read before either is set.
        let level = request.compatibility.as_deref().map(level_from_name).transpose().map_err(refused)?;
        let mode = request.mode.as_deref().map(Mode::from_name).transpose().map_err(refused)?;
        if level.is_some() {
            let config = Config { level, normalize: None };
            self.0.registry.set_config(subject, &config).await.map_err(refused)?;
        }
        if let Some(mode) = mode {
            self.0.registry.set_mode(subject, mode, request.force).await.map_err(refused)?;
        }
        self.settings(subject).await
    }

    async fn get_schema_statistics(
        &self,
        _request: Request<proto::GetSchemaStatisticsRequest>,
    ) -> Result<Response<proto::SchemaStatistics>, Status> {
        let counted = self.0.registry.statistics().await.map_err(refused)?;
        let cache = self.0.registry.cache_statistics().await;
        Ok(Response::new(proto::SchemaStatistics {
            subjects: counted.subjects,
            versions: counted.versions.unwrap_or_default(),
            deleted_versions: counted.deleted_versions.unwrap_or_default(),
            contexts: counted.contexts,
            versions_by_type: counted.by_type.iter().map(|(of, count)| (of.to_string(), *count)).collect(),
            cache_hits: cache.hits,
            cache_misses: cache.misses,
        }))
    }
}

impl Schemas {
    async fn settings(&self, subject: Option<&str>) -> Result<Response<proto::SchemaSettings>, Status> {
        let config = self.0.registry.config(subject, true).await.map_err(refused)?;
        let mode = self.0.registry.mode(subject, true).await.map_err(refused)?;
        let compatibility = config.level.map(|level| level.to_string()).unwrap_or_default();
        Ok(Response::new(proto::SchemaSettings { compatibility, mode: mode.to_string() }))
    }
}

fn selector(version: u32) -> VersionSelector {
    if version == 0 { VersionSelector::Latest } else { VersionSelector::Number(version) }
}

fn with(deleted: bool) -> Deleted {
    if deleted { Deleted::With } else { Deleted::Without }
}

fn new_schema(given: Option<proto::NewSchema>) -> Result<NewSchema, Status> {
    let given = given.ok_or_else(|| status(&Error::invalid("schema", "is missing")))?;
    let schema_type = match given.schema_type.as_str() {
        "" => SchemaType::Protobuf,
        name => SchemaType::from_name(name).ok_or_else(|| {
            status(&Error::invalid("schema.schema_type", "must be `PROTOBUF`, `AVRO` or `JSON`"))
        })?,
    };
    let json = |field: &str, text: Option<String>| {
        let read = text.map(|text| serde_json::from_str(&text)).transpose();
        read.map_err(|error| status(&Error::invalid(field, format!("must be an object in JSON: {error}"))))
    };
    let reference = |given: proto::SchemaReference| NewReference {
        name: given.name,
        subject: given.subject,
        version: selector(given.version),
    };
    Ok(NewSchema {
        schema_type,
        text: given.schema,
        references: given.references.into_iter().map(reference).collect(),
        metadata: json("schema.metadata", given.metadata)?,
        rule_set: json("schema.rule_set", given.rule_set)?,
    })
}

fn schema(schema: &Schema) -> proto::Schema {
    let content = schema.content();
    let reference = |to: &domain::schemas::registry::Reference| proto::SchemaReference {
        name: to.name.clone(),
        subject: to.subject.clone(),
        version: to.version,
    };
    proto::Schema {
        context: schema.context.clone(),
        id: schema.id.0,
        guid: schema.guid().map(|guid| guid.to_string()).unwrap_or_default(),
        schema_type: content.schema_type.to_string(),
        schema: content.text.clone(),
        references: content.references.iter().map(reference).collect(),
        metadata: content.metadata.as_ref().map(ToString::to_string),
        rule_set: content.rule_set.as_ref().map(ToString::to_string),
    }
}

fn version(registered: &Registered) -> proto::SchemaVersion {
    proto::SchemaVersion {
        subject: registered.subject.clone(),
        version: registered.version,
        deleted: registered.deleted,
        schema: Some(schema(&registered.schema)),
    }
}
