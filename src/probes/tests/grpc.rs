//! The health service of gRPC, against the library's own server.

use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::ServingStatus;

use super::*;

async fn serve(routes: Routes) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(listener)));
    port
}

async fn ask(port: u16, service: &str) -> Outcome {
    let grpc = ProbeAction::Grpc { port, service: service.to_owned() };
    Asker::new().unwrap().ask(&of(grpc)).await
}

#[tokio::test]
async fn the_health_of_a_service_is_taken_as_a_kubelet_takes_it() {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop.Cart", ServingStatus::Serving).await;
    reporter.set_service_status("shop.Old", ServingStatus::NotServing).await;
    let port = serve(Routes::new(health)).await;
    for service in ["", "shop.Cart"] {
        assert_eq!(ask(port, service).await, Outcome::Success, "{service:?}");
    }
    reporter.set_service_status("shop.Cart", ServingStatus::Unknown).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (web, _) = server(BTreeMap::new()).await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    for (port, service, words) in [
        (port, "shop.Old", "service unhealthy (responded with \"NOT_SERVING\")"),
        (port, "shop.Cart", "service unhealthy (responded with \"UNKNOWN\")"),
        (port, "shop.Nobody", "was not found"),
        (serve(Routes::default()).await, "", "there is no grpc.health.v1.Health"),
        (silent.local_addr().unwrap().port(), "", "no answer within"),
        (web, "", "no answer within"),
        (closed, "", "refused"),
    ] {
        match ask(port, service).await {
            Outcome::Failure(why) => assert!(why.to_lowercase().contains(&words.to_lowercase()), "{service}: {why}"),
            other => panic!("{service:?} {words}: {other:?}"),
        }
    }
}
