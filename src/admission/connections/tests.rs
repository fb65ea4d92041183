use std::net::Ipv4Addr;

use super::*;

const PATIENCE: Duration = Duration::from_millis(150);
const API_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Enters, and rests after an answer.
async fn idle(connections: &Arc<Connections>, peer: IpAddr) -> Entry {
    let entry = connections.enter(peer).await;
    entry.connection().rests();
    entry
}

fn yielding(entries: &[Entry]) -> usize {
    entries.iter().filter(|entry| entry.connection().phase() == Phase::GivenUp).count()
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_new_connections_does_not_cost_a_peer_the_ones_it_keeps() {
    let connections = Connections::new(4, PATIENCE);
    let kept = [idle(&connections, API_SERVER).await, idle(&connections, API_SERVER).await];
    tokio::time::advance(PATIENCE * 10).await;
    let opening = [connections.enter(OTHER).await, connections.enter(OTHER).await];
    // Nobody has been opening for long.
    connections.make_room(Short::Connections, OTHER);
    assert_eq!((yielding(&kept), yielding(&opening)), (0, 0));
    tokio::time::advance(PATIENCE).await;
    connections.make_room(Short::Connections, OTHER);
    assert_eq!((yielding(&kept), yielding(&opening)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn idle_connections_yield_where_there_are_no_others_or_a_peer_keeps_too_many() {
    let connections = Connections::new(100, PATIENCE);
    let kept = [idle(&connections, API_SERVER).await];
    tokio::time::advance(PATIENCE).await;
    connections.make_room(Short::Connections, OTHER);
    assert_eq!(yielding(&kept), 1);

    let connections = Connections::new(100, PATIENCE);
    let kept = [idle(&connections, API_SERVER).await];
    let mut many = Vec::new();
    for _ in 0..=SPARED {
        many.push(idle(&connections, OTHER).await);
    }
    tokio::time::advance(PATIENCE).await;
    let _opening = connections.enter(API_SERVER).await;
    connections.make_room(Short::Connections, API_SERVER);
    assert_eq!((yielding(&kept), yielding(&many)), (0, 1));
}
