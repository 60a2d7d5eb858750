use super::*;

#[tokio::test]
async fn a_full_server_says_so_and_when_to_come_back() {
    let backend = Backend::new(AT_ONCE, HINT, None);
    let address = http_server(&backend).await;
    let held = hold(&backend, &Client::new(1).http(address)).await;
    let response = reqwest::get(format!("http://{address}/quick")).await;
    let response = http::Response::<reqwest::Body>::from(response.unwrap());
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.headers()["buttress-rejected"], "overloaded");
    let outcome = Classify::<_, ()>::classify(&ServerErrorsAsFailures, Ok(&response));
    let retry_after = Some(HTTP_HINT);
    assert_eq!(outcome, Outcome::Overloaded { retry_after });
    held.abort();
}

#[tokio::test]
async fn a_client_comes_back_when_it_is_asked_to() {
    let (backend, client) = (Backend::new(AT_ONCE, HINT, None), Client::new(3));
    let call = client.http(http_server(&backend).await);
    comes_back_when_asked_to(backend, client, call, HTTP_HINT).await;
}

#[tokio::test]
async fn a_client_is_slowed_down() {
    let (backend, client) = (Backend::new(AT_ONCE, HINT, None), Client::new(1));
    let call = client.http(http_server(&backend).await);
    is_slowed_down(backend, client, call).await;
}

#[tokio::test]
async fn deadline_and_criticality_arrive_here_and_behind() {
    let far = Backend::new(LONG, HINT, None);
    let next = Client::new(1).http(http_server(&far).await);
    let near = Backend::new(LONG, HINT, Some(next));
    let call = Client::new(1).http(http_server(&near).await);
    arrive_here_and_behind(near, far, call).await;
}

#[tokio::test]
async fn what_matters_more_takes_the_place_of_what_matters_less() {
    let backend = Backend::new(LONG, HINT, None);
    let call = Client::new(1).http(http_server(&backend).await);
    what_matters_more_takes_the_place(backend, call).await;
}
