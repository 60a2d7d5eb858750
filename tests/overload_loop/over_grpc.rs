use super::*;

#[tokio::test]
async fn a_full_server_says_so_and_when_to_come_back() {
    let backend = Backend::new(AT_ONCE, HINT, None);
    let address = grpc_server(&backend).await;
    let held = hold(&backend, &Client::new(1).grpc(address)).await;
    let mut plain = HealthClient::new(channel(address));
    let status = plain.check(asking("quick")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    assert_eq!(pushback.unwrap(), "300");
    let outcome = Classify::<(), _>::classify(&CodesAsFailures, Err(&status));
    let retry_after = Some(HINT);
    assert_eq!(outcome, Outcome::Overloaded { retry_after });
    held.abort();
}

#[tokio::test]
async fn a_client_comes_back_when_it_is_asked_to() {
    let (backend, client) = (Backend::new(AT_ONCE, HINT, None), Client::new(3));
    let call = client.grpc(grpc_server(&backend).await);
    comes_back_when_asked_to(backend, client, call, HINT).await;
}

#[tokio::test]
async fn a_client_is_slowed_down() {
    let (backend, client) = (Backend::new(AT_ONCE, HINT, None), Client::new(1));
    let call = client.grpc(grpc_server(&backend).await);
    is_slowed_down(backend, client, call).await;
}

#[tokio::test]
async fn deadline_and_criticality_arrive_here_and_behind() {
    let far = Backend::new(LONG, HINT, None);
    let next = Client::new(1).grpc(grpc_server(&far).await);
    let near = Backend::new(LONG, HINT, Some(next));
    let call = Client::new(1).grpc(grpc_server(&near).await);
    arrive_here_and_behind(near, far, call).await;
}

#[tokio::test]
async fn what_matters_more_takes_the_place_of_what_matters_less() {
    let backend = Backend::new(LONG, HINT, None);
    let call = Client::new(1).grpc(grpc_server(&backend).await);
    what_matters_more_takes_the_place(backend, call).await;
}
