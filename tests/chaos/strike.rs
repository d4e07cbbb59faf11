//! Does what goes wrong, and undoes it.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::Result;
use modulet_testkit::{process::Process, wait::eventually};
use tokio::time::sleep;

use super::{
    event::{Event, Part},
    faults::{Fault, Role, Target, To, What},
    seen::Seen,
    world::{REPLICAS, Replica, World, replica_name},
};

/// What only one thing is done to at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Component {
    Replica(usize),
    ToBroker(usize),
    ToApiServer(usize),
    Broker,
    /// API server and etcd: the first does not start without the other.
    ControlPlane,
    Base(usize),
}

/// A fault from its begin to its end. One for which there is no place just now is left out.
pub(crate) async fn strike(world: Arc<World>, seen: Arc<Seen>, fault: Fault) -> Result<()> {
    let component = component(&seen, fault.what);
    if !world.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(component) {
        seen.note(&format!("left out: {fault}"));
        return Ok(());
    }
    seen.count(fault.what.kind());
    let part = part(component, fault.what);
    // Doubled answers and a heart that beats no more are nothing that anybody may notice.
    let quiet = matches!(fault.what, What::DoubleReplies(_) | What::StopBeating(_));
    seen.fault(format!("{fault} ({component:?})"), (!quiet).then_some(Event::Begins { part }));
    let outcome = act(&world, &seen, fault, component).await;
    seen.fault(format!("over: {:?}", fault.what), (!quiet).then_some(Event::Ends { part }));
    world.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&component);
    outcome
}

fn component(seen: &Seen, what: What) -> Component {
    match what {
        What::Kill(target) | What::Stop(target) | What::Freeze(target) => match target {
            Target::Replica(role) => Component::Replica(number(seen, role)),
            Target::Broker => Component::Broker,
            Target::ApiServer | Target::Etcd => Component::ControlPlane,
        },
        What::Cut(role, to) | What::Slow(role, to, _) | What::HalfOpen(role, to) => match to {
            To::Broker => Component::ToBroker(number(seen, role)),
            To::ApiServer => Component::ToApiServer(number(seen, role)),
        },
        What::KillBase { base, .. }
        | What::HangBase(base)
        | What::CutBase(base)
        | What::DelayReplies(base, _)
        | What::DoubleReplies(base)
        | What::DropReplies(base, _)
        | What::StopBeating(base) => Component::Base(base),
    }
}

/// The replica that is this just now.
fn number(seen: &Seen, role: Role) -> usize {
    let leader = seen.checker(|checker| checker.leader().map(str::to_owned));
    let leader = (0..REPLICAS).find(|number| Some(replica_name(*number)) == leader).unwrap_or(0);
    if role == Role::Leader { leader } else { (leader + 1) % REPLICAS }
}

fn part(component: Component, what: What) -> Part {
    match component {
        _ if matches!(what, What::HalfOpen(..)) => Part::DeadWay,
        Component::ControlPlane => Part::ApiServer,
        Component::Base(base) => Part::Base(base),
        _ => Part::Way,
    }
}

async fn act(world: &World, seen: &Seen, fault: Fault, component: Component) -> Result<()> {
    let lasts = fault.lasts;
    match (fault.what, component) {
        (what, Component::Replica(number)) => replica(&world.replicas[number], what, lasts).await,
        (what, Component::ToBroker(number)) => link(&world.replicas[number], To::Broker, what, lasts).await,
        (what, Component::ToApiServer(number)) => link(&world.replicas[number], To::ApiServer, what, lasts).await,
        (what, Component::Broker) => broker(world, what, lasts).await?,
        (what, Component::ControlPlane) => control_plane(world, what, lasts).await?,
        (what, Component::Base(number)) => base(world, seen, number, what, lasts).await?,
    }
    Ok(())
}

async fn replica(replica: &Replica, what: What, lasts: Duration) {
    // Held all the time, so that nobody starts it again.
    let mut controller = replica.controller.lock().await;
    // It may have ended by itself; then it is away all the same.
    match what {
        What::Kill(_) => drop(controller.kill9().await),
        What::Stop(_) => drop(controller.terminate().await),
        _ => drop(controller.process().and_then(Process::pause)),
    }
    sleep(lasts).await; // as long as the fault is to last
    drop(controller.process().and_then(Process::resume));
    drop(controller.start_again());
}

async fn link(replica: &Replica, to: To, what: What, lasts: Duration) {
    let proxy = if to == To::Broker { &replica.to_broker } else { &replica.to_api_server };
    match what {
        What::Slow(_, _, delay) => proxy.slow(delay),
        What::HalfOpen(..) => proxy.swallow(),
        _ => proxy.cut(true),
    }
    sleep(lasts).await; // as long as the fault is to last
    proxy.slow(Duration::ZERO);
    proxy.cut(false);
}

async fn broker(world: &World, what: What, lasts: Duration) -> Result<()> {
    match what {
        What::Kill(_) => world.broker.kill9().await?,
        What::Stop(_) => world.broker.stop().await?,
        _ => world.broker.pause().await?,
    }
    sleep(lasts).await; // as long as the fault is to last
    if matches!(what, What::Freeze(_)) { world.broker.resume().await } else { world.broker.start_again().await }
}

async fn control_plane(world: &World, what: What, lasts: Duration) -> Result<()> {
    let cluster = &world.cluster;
    match what {
        What::Freeze(Target::Etcd) => cluster.pause_etcd().await?,
        What::Freeze(_) => cluster.pause_api_server().await?,
        What::Kill(Target::Etcd) => cluster.kill_etcd().await?,
        _ => cluster.kill_api_server().await?,
    }
    sleep(lasts).await; // as long as the fault is to last
    match what {
        What::Freeze(Target::Etcd) => cluster.resume_etcd().await,
        What::Freeze(_) => cluster.resume_api_server().await,
        What::Kill(Target::Etcd) => cluster.start_etcd().await,
        _ => {
            let start = async || cluster.start_api_server().await;
            eventually("the API server to start", Duration::from_mins(1), start).await
        }
    }
}

async fn base(world: &World, seen: &Seen, number: usize, what: What, lasts: Duration) -> Result<()> {
    let base = &world.bases[number];
    match what {
        What::KillBase { moves, .. } => {
            base.jvm.kill();
            // What is dead need not be known to be dead at once, but before long.
            seen.see(seen.now(), Event::Ends { part: Part::Base(number) });
            if moves {
                base.moves(number);
            }
            sleep(lasts).await; // as long as it is dead
            seen.see(seen.now(), Event::Begins { part: Part::Base(number) });
            return base.restart().await;
        }
        What::HangBase(_) => base.jvm.hang(),
        What::CutBase(_) => base.jvm.drop_connection_for(lasts),
        What::DelayReplies(_, delay) => base.jvm.delay_replies(delay),
        What::DoubleReplies(_) => base.jvm.duplicate_replies(true),
        What::DropReplies(_, count) => base.jvm.mute_next_reply(count),
        _ => base.jvm.stop_beating(),
    }
    sleep(lasts).await; // as long as the fault is to last
    base.jvm.resume();
    base.jvm.delay_replies(Duration::ZERO);
    base.jvm.duplicate_replies(false);
    base.jvm.mute_next_reply(0);
    Ok(())
}
