//! The registry over gRPC.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod support;

use api_grpc::proto::{
    CheckCompatibilityRequest, DeleteSchemaVersionRequest, DeleteSubjectRequest, GetSchemaRequest,
    GetSchemaSettingsRequest, GetSchemaStatisticsRequest, GetSchemaVersionRequest, ListSchemaVersionsRequest,
    ListSubjectsRequest, LookupSchemaRequest, NewSchema, RegisterSchemaRequest, SchemaReference,
    UpdateSchemaSettingsRequest, get_schema_request::Of, schemas_client::SchemasClient,
};
use support::Front;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

fn order(fields: &str) -> NewSchema {
    let schema = format!("syntax = \"proto3\"; package shop; message Order {{ {fields} }}");
    NewSchema { schema, ..NewSchema::default() }
}

fn register(schema: NewSchema) -> RegisterSchemaRequest {
    RegisterSchemaRequest {
        subject: "order".into(),
        schema: Some(schema),
        ..RegisterSchemaRequest::default()
    }
}

fn reason(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info().unwrap();
    (status.code(), info.reason)
}

async fn client() -> (Front, SchemasClient<Channel>) {
    let front = Front::start().await;
    let client = SchemasClient::new(front.channel.clone());
    (front, client)
}

#[tokio::test]
async fn a_schema_is_registered_found_compared_and_deleted() {
    let (_front, mut client) = client().await;
    let first = client.register_schema(register(order("string id = 1;"))).await.unwrap().into_inner();
    let schema = first.schema.clone().unwrap();
    assert_eq!((first.version, schema.id, schema.schema_type.as_str()), (1, 1, "PROTOBUF"));
    assert_eq!((schema.context.as_str(), &schema.schema), (".", &order("string id = 1;").schema));
    client.register_schema(register(order("string id = 1; int32 count = 2;"))).await.unwrap();

    let lookup = LookupSchemaRequest {
        subject: "order".into(),
        schema: Some(order("string id = 1;")),
        ..LookupSchemaRequest::default()
    };
    assert_eq!(client.lookup_schema(lookup).await.unwrap().into_inner(), first);
    for of in [Of::Id(1), Of::Guid(schema.guid.clone())] {
        let found = client.get_schema(GetSchemaRequest { of: Some(of), subject: None }).await.unwrap();
        assert_eq!(found.into_inner(), schema);
    }
    let latest = GetSchemaVersionRequest { subject: "order".into(), ..GetSchemaVersionRequest::default() };
    assert_eq!(client.get_schema_version(latest).await.unwrap().into_inner().version, 2);

    let check = |fields: &str| CheckCompatibilityRequest {
        subject: "order".into(),
        schema: Some(order(fields)),
        ..CheckCompatibilityRequest::default()
    };
    assert!(
        client
            .check_compatibility(check("string id = 1; int32 count = 2; bool paid = 3;"))
            .await
            .unwrap()
            .into_inner()
            .compatible
    );
    let refused = client.check_compatibility(check("int32 id = 1;")).await.unwrap().into_inner();
    assert!(!refused.compatible && !refused.messages.is_empty());
    let error = client.register_schema(register(order("int32 id = 1;"))).await.unwrap_err();
    assert_eq!(reason(&error), (Code::Aborted, "conflict".into()));
    assert!(error.message().contains("FIELD_SCALAR_KIND_CHANGED"), "{error}");

    let listed = client.list_subjects(ListSubjectsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.subjects, ["order"]);
    let delete = DeleteSchemaVersionRequest { subject: "order".into(), version: 1, permanent: false };
    client.delete_schema_version(delete).await.unwrap();
    let versions = |deleted| ListSchemaVersionsRequest { subject: "order".into(), deleted };
    assert_eq!(client.list_schema_versions(versions(false)).await.unwrap().into_inner().versions, [2]);
    assert_eq!(client.list_schema_versions(versions(true)).await.unwrap().into_inner().versions, [1, 2]);
    let counted = client.get_schema_statistics(GetSchemaStatisticsRequest {}).await.unwrap().into_inner();
    assert_eq!((counted.subjects, counted.versions, counted.deleted_versions), (1, 1, 1));
    assert_eq!(counted.versions_by_type["PROTOBUF"], 1);
    let delete = |permanent| DeleteSubjectRequest { subject: "order".into(), permanent };
    assert_eq!(client.delete_subject(delete(false)).await.unwrap().into_inner().versions, [2]);
    assert_eq!(client.delete_subject(delete(true)).await.unwrap().into_inner().versions, [1, 2]);
    let error = client.delete_subject(delete(true)).await.unwrap_err();
    assert_eq!(reason(&error), (Code::NotFound, "not_found".into()));
}

#[tokio::test]
async fn settings_are_set_for_a_subject_or_for_everybody() {
    let (_front, mut client) = client().await;
    let get = |subject: Option<&str>| GetSchemaSettingsRequest { subject: subject.map(str::to_owned) };
    let found = client.get_schema_settings(get(None)).await.unwrap().into_inner();
    assert_eq!((found.compatibility.as_str(), found.mode.as_str()), ("FULL_TRANSITIVE", "READWRITE"));
    let update = UpdateSchemaSettingsRequest {
        subject: Some("order".into()),
        compatibility: Some("BACKWARD".into()),
        mode: Some("READONLY".into()),
        force: false,
    };
    let set = client.update_schema_settings(update.clone()).await.unwrap().into_inner();
    assert_eq!((set.compatibility.as_str(), set.mode.as_str()), ("BACKWARD", "READONLY"));
    let found = client.get_schema_settings(get(Some("other"))).await.unwrap().into_inner();
    assert_eq!(found.compatibility, "FULL_TRANSITIVE");
    let error = client.register_schema(register(order("string id = 1;"))).await.unwrap_err();
    assert_eq!(reason(&error), (Code::Aborted, "conflict".into()));
    // Of what cannot be read nothing is set.
    let wrong = UpdateSchemaSettingsRequest {
        compatibility: Some("FULL".into()),
        mode: Some("WRITEONLY".into()),
        ..update
    };
    let error = client.update_schema_settings(wrong).await.unwrap_err();
    assert_eq!(reason(&error), (Code::InvalidArgument, "invalid_request".into()));
    let found = client.get_schema_settings(get(Some("order"))).await.unwrap().into_inner();
    assert_eq!(found.compatibility, "BACKWARD");
}

#[tokio::test]
async fn bad_input_is_the_clients_fault_and_is_named() {
    let (_front, mut client) = client().await;
    let reference = SchemaReference { name: "a.proto".into(), subject: "none".into(), version: 1 };
    let good = order("string id = 1;");
    for request in [
        RegisterSchemaRequest { schema: None, ..register(good.clone()) },
        register(NewSchema::default()),
        register(NewSchema { schema_type: "XML".into(), ..good.clone() }),
        register(NewSchema { schema: "nonsense".into(), ..good.clone() }),
        register(NewSchema { metadata: Some("{".into()), ..good.clone() }),
        register(NewSchema { rule_set: Some("[]".into()), ..good.clone() }),
        register(NewSchema { references: vec![reference], ..good.clone() }),
        RegisterSchemaRequest { subject: String::new(), ..register(good.clone()) },
        RegisterSchemaRequest { version: Some(7), ..register(good.clone()) },
        RegisterSchemaRequest { id: Some(u32::MAX), ..register(good) },
    ] {
        let error = client.register_schema(request.clone()).await.unwrap_err();
        assert_eq!(reason(&error), (Code::InvalidArgument, "invalid_request".into()), "{request:?}");
    }
    for of in [None, Some(Of::Guid("x".into()))] {
        let error = client.get_schema(GetSchemaRequest { of, subject: None }).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    let error = client.get_schema(GetSchemaRequest { of: Some(Of::Id(0)), subject: None }).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}
