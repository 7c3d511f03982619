//! The dispatcher's calls, and the routes of the door.

use axum::body::Body;
use axum::extract::State;
use axum::http;
use axum::routing::post;
use tonic::{Request, Response, Status};

use super::assignments::Assignments;
use super::feed::Feed;
use super::gossip::Introducer;
use super::hub::Hub;
use super::logs::{Logs, PUBLISH_BYTES_MAX};
use super::node_ca::Certificates;
use super::peer::{Peer, session_status, status};
use super::resources::Resources;
use super::session::Messages;
use super::wiped;
use crate::domain::actor::Actor;
use crate::domain::id::{NodeId, SessionId};
use crate::domain::intent::{Intent, TaskReport};
use crate::domain::view::View;
use crate::manager::{Manager, SessionError};
use crate::wire;
use crate::wire::proto::ca_server::CaServer;
use crate::wire::proto::dispatcher_server::{Dispatcher, DispatcherServer};
use crate::wire::proto::log_broker_server::LogBrokerServer;
use crate::wire::proto::node_ca_server::NodeCaServer;
use crate::wire::proto::resource_allocator_server::ResourceAllocatorServer;
use crate::wire::proto::{
    AssignmentsMessage, AssignmentsRequest, HeartbeatRequest, HeartbeatResponse, SessionMessage,
    SessionRequest, TasksMessage, TasksRequest, UpdateTaskStatusRequest, UpdateTaskStatusResponse,
    UpdateVolumeStatusRequest, UpdateVolumeStatusResponse,
};

/// Status updates in one report; an agent sends far fewer.
const UPDATES_MAX: usize = 10_000;

/// The call that carries secrets.
const ASSIGNMENTS: &str = "/docker.swarmkit.v1.Dispatcher/Assignments";

/// All services of the door.
pub(super) fn routes(manager: &Manager, hub: &Hub, introducer: &Introducer) -> axum::Router {
    let certificates = Certificates { manager: manager.clone() };
    let calls =
        Calls { manager: manager.clone(), hub: hub.clone(), introducer: introducer.clone() };
    let logs = Logs { manager: manager.clone() };
    let resources = Resources { manager: manager.clone() };
    let mut routes = tonic::service::Routes::builder();
    routes
        .add_service(CaServer::new(certificates.clone()))
        .add_service(NodeCaServer::new(certificates))
        .add_service(DispatcherServer::new(calls.clone()))
        .add_service(ResourceAllocatorServer::new(resources))
        .add_service(LogBrokerServer::new(logs).max_decoding_message_size(PUBLISH_BYTES_MAX));
    // The one stream that carries secrets goes its own way.
    routes.routes().into_axum_router().route(ASSIGNMENTS, post(assignments).with_state(calls))
}

async fn assignments(
    State(calls): State<Calls>,
    request: http::Request<Body>,
) -> http::Response<Body> {
    let stream = async {
        let request = wiped::read(request).await?;
        calls.assignments(request).await.map(Response::into_inner)
    };
    wiped::answer(stream.await)
}

#[derive(Clone)]
struct Calls {
    manager: Manager,
    hub: Hub,
    introducer: Introducer,
}

impl Calls {
    /// The node that calls, and the id that it gives for its session.
    fn caller<T>(
        &self,
        request: &Request<T>,
        view: &View,
        id: impl Fn(&T) -> &str,
    ) -> Result<(NodeId, SessionId), Status> {
        let node = Peer::of(request)?.member(view)?;
        let id = id(request.get_ref()).parse();
        Ok((node, id.map_err(|_| session_status(SessionError::Invalid))?))
    }
}

#[tonic::async_trait]
impl Dispatcher for Calls {
    type SessionStream = Feed<SessionMessage>;
    type AssignmentsStream = Feed<AssignmentsMessage>;
    type TasksStream = Feed<TasksMessage>;

    async fn session(
        &self,
        request: Request<SessionRequest>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let view = self.manager.view();
        let peer = Peer::of(&request)?.clone();
        let node = peer.member(&view)?;
        let message = request.into_inner();
        let is_fresh = message.session_id.is_empty();
        let offered = message.session_id.parse().ok();
        let period = self.manager.heartbeat_period();
        let session =
            self.manager.sessions().register(node, offered, period).map_err(session_status)?;
        let ip = peer.addr.ip().to_canonical();
        let description = message.description.map(|d| wire::node::description(&d));
        let register = Intent::RegisterNode {
            id: node,
            description: Box::new(description.unwrap_or_default()),
            addr: ip.to_string(),
            // An agent that has been in a session names it.
            is_fresh,
        };
        if let Err(refusal) = self.manager.submit(Actor::Node(node), register).await {
            self.manager.sessions().end(node, session.id);
            return Err(status(refusal));
        }
        tracing::info!(node = %node, session = %session.id, addr = %peer.addr, "session opened");
        self.manager.forget_clock(node);
        self.introducer.make_way(ip).await;
        peer.carries.send_replace(Some(session.ended.clone()));
        let bell = self.hub.bell(node);
        let messages = Messages { manager: self.manager.clone(), node, session, bell }.start();
        Ok(Response::new(messages))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let view = self.manager.view();
        let (node, id) = self.caller(&request, &view, |message| &message.session_id)?;
        let period = self.manager.heartbeat_period();
        let next = self.manager.sessions().beat(node, id, period).map_err(session_status)?;
        Ok(Response::new(wire::session::heartbeat(next)))
    }

    async fn assignments(
        &self,
        request: Request<AssignmentsRequest>,
    ) -> Result<Response<Self::AssignmentsStream>, Status> {
        let view = self.manager.view();
        let (node, id) = self.caller(&request, &view, |message| &message.session_id)?;
        let session = self.manager.sessions().begin_assignments(node, id);
        let session = session.map_err(session_status)?;
        let bell = self.hub.bell(node);
        let messages = Assignments { manager: self.manager.clone(), node, session, bell }.start();
        Ok(Response::new(messages))
    }

    async fn update_task_status(
        &self,
        request: Request<UpdateTaskStatusRequest>,
    ) -> Result<Response<UpdateTaskStatusResponse>, Status> {
        let view = self.manager.view();
        let (node, id) = self.caller(&request, &view, |message| &message.session_id)?;
        self.manager.sessions().current(node, id).map_err(session_status)?;
        let updates = request.into_inner().updates;
        if updates.len() > UPDATES_MAX {
            return Err(Status::resource_exhausted("too many updates in one report"));
        }
        let now = self.manager.clock().now();
        let mut reports = Vec::with_capacity(updates.len());
        for update in updates {
            // A task that is not known is no error: the agent would build a new session and say it
            // again.
            let Some(task) = update.task_id.parse().ok().and_then(|id| view.task(id)) else {
                continue;
            };
            if task.node_id != Some(node) {
                return Err(Status::permission_denied("that task is assigned to another node"));
            }
            let reported = update.status.as_ref().and_then(|told| wire::task::status(told, now));
            if let Some(status) = reported {
                reports.push(TaskReport { node, task: task.id, status });
            }
        }
        let offset =
            |report: &TaskReport| report.status.timestamp.unix_seconds() - now.unix_seconds();
        if let Some(offset) = reports.iter().map(offset).max() {
            self.manager.note_clock(node, offset).await;
        }
        if !reports.is_empty() {
            let intent = Intent::ReportTasks { reports };
            self.manager.submit(Actor::Node(node), intent).await.map_err(status)?;
        }
        Ok(Response::new(UpdateTaskStatusResponse {}))
    }

    async fn tasks(&self, _: Request<TasksRequest>) -> Result<Response<Self::TasksStream>, Status> {
        Err(Status::unimplemented("agents use assignments"))
    }

    async fn update_volume_status(
        &self,
        _: Request<UpdateVolumeStatusRequest>,
    ) -> Result<Response<UpdateVolumeStatusResponse>, Status> {
        Err(Status::unimplemented("cluster volumes are not supported"))
    }
}
