//! What a rollback does to a service beside its tasks: credentials, and references that dangle.

use purser::domain::change::SealedData;
use purser::domain::id::{SecretId, ServiceId};
use purser::domain::intent::{AuthFrom, Intent, SealedPayload};
use purser::domain::secret::{FileTarget, Fingerprint, SecretReference, SecretSpec};
use purser::domain::service::{RegistryAuth, Service, ServiceSpec};
use purser::domain::task_state::Mover;

use super::spec;
use super::world::World;

/// A cluster with a node and a service, whose credentials are called as its image.
fn world(settings: &[&str]) -> (World, ServiceId) {
    let mut world = World::new(0);
    world.line("node n1");
    let id = ServiceId::make(&world.entropy);
    let spec = with(spec::plain("web"), settings);
    submit(&mut world, Intent::CreateService { id, spec, registry_auth: auth("app:1") });
    (world, id)
}

fn with(mut spec: ServiceSpec, settings: &[&str]) -> ServiceSpec {
    settings.iter().for_each(|setting| spec::set(&mut spec, setting).expect("a setting"));
    spec
}

fn auth(text: &str) -> Option<RegistryAuth> {
    Some(RegistryAuth(text.into()))
}

#[track_caller]
fn submit(world: &mut World, intent: Intent) {
    assert_eq!(world.submit(Mover::Orchestrator, intent), Ok(true));
    world.line("advance 1m");
    assert!(world.complaints.is_empty(), "{:?}", world.complaints);
}

fn service(world: &World, id: ServiceId) -> Service {
    Service::clone(world.view.service(id).expect("the service"))
}

#[track_caller]
fn update(world: &mut World, id: ServiceId, image: &str) {
    let service = service(world, id);
    let spec = with(service.spec, &[&format!("image={image}")]);
    let (version, registry_auth) = (service.meta.version, auth(image));
    let auth_from = AuthFrom::Spec;
    submit(world, Intent::UpdateService { id, version, spec, registry_auth, auth_from });
}

#[track_caller]
fn roll_back(world: &mut World, id: ServiceId) {
    let Service { spec, meta, .. } = service(world, id);
    let (version, registry_auth, auth_from) = (meta.version, auth("sent"), AuthFrom::PreviousSpec);
    submit(world, Intent::RollBackService { id, version, spec, registry_auth, auth_from });
}

/// The images of the spec and the one before, and the credentials of both.
fn shown(world: &World, id: ServiceId) -> [String; 4] {
    let service = service(world, id);
    let image = |spec: Option<&ServiceSpec>| {
        let container = spec.and_then(ServiceSpec::container);
        container.map_or(String::new(), |container| container.image.clone())
    };
    [
        image(Some(&service.spec)),
        service.registry_auth.0,
        image(service.previous_spec.as_ref()),
        service.previous_registry_auth.0,
    ]
}

#[test]
fn credentials_go_with_their_spec() {
    let (mut world, id) = world(&["failure=rollback"]);
    update(&mut world, id, "app:2");
    assert_eq!(shown(&world, id), ["app:2", "app:2", "app:1", "app:1"]);
    roll_back(&mut world, id);
    assert_eq!(shown(&world, id), ["app:1", "app:1", "app:2", "app:2"]);
    roll_back(&mut world, id);
    assert_eq!(shown(&world, id), ["app:2", "app:2", "app:1", "app:1"]);
    // Tasks pull with those of the spec that they are made from.
    let task = world.view.tasks().find(|task| task.is_wanted()).expect("a task");
    assert_eq!(task.registry_auth.0, "app:2");
    // A spec that failed is gone, and what belongs to it.
    update(&mut world, id, "absent:3");
    assert_eq!(shown(&world, id), ["app:2", "app:2", "", ""]);
}

#[test]
fn an_update_that_fails_is_paused_where_the_spec_before_cannot_be_had() {
    let (mut world, id) = world(&["failure=rollback", "order=start-first"]);
    let secret = SecretId::make(&world.entropy);
    let spec = SecretSpec { name: "pw".into(), ..Default::default() };
    let sealed = SealedPayload {
        bytes: SealedData::default(),
        fingerprint: Fingerprint([0; 32]),
        fault: None,
    };
    let payload = Some(sealed);
    submit(&mut world, Intent::CreateSecret { id: secret, spec, payload, payload_len: 1 });
    let Service { mut spec, meta, .. } = service(&world, id);
    let plain = spec.clone();
    let template = std::sync::Arc::make_mut(&mut spec.task_template);
    template.container_spec.get_or_insert_default().secrets = vec![SecretReference {
        file: Some(FileTarget { name: "pw".into(), ..Default::default() }),
        secret_id: secret.to_string(),
        secret_name: "pw".into(),
    }];
    let (version, registry_auth, auth_from) = (meta.version, None, AuthFrom::Spec);
    submit(&mut world, Intent::UpdateService { id, version, spec, registry_auth, auth_from });
    let version = service(&world, id).meta.version;
    let spec = with(plain, &["image=absent:2"]);
    let update = Intent::UpdateService { id, version, spec, registry_auth: None, auth_from };
    assert_eq!(world.submit(Mover::Orchestrator, update), Ok(true));
    assert_eq!(world.submit(Mover::Orchestrator, Intent::RemoveSecret { id: secret }), Ok(true));
    world.line("advance 1m");
    assert!(world.complaints.is_empty(), "{:?}", world.complaints);
    let status = service(&world, id).update_status.expect("a status");
    assert_eq!(status.state.as_str(), "paused");
    let text = "update paused due to failure or early termination of task ";
    assert!(status.message.starts_with(text), "{}", status.message);
    assert!(status.message.ends_with(", not rolled back: secret not found: pw"));
}
