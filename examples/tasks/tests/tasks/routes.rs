//! Every route, when all is well, and when it is not there.

use crate::process::Service;
use serde_json::{Value, json};

#[tokio::test]
async fn users_are_added_shown_changed_listed_and_removed() {
    let api = Service::start().await;
    let user = json!({"name": "Ann", "email": "ann@example.org"});
    let added = api.post("/users", user).await;
    assert_eq!(added.header("location"), "/users/1");
    assert!(added.header("x-served-by").starts_with("127.0.0.1:"));
    let added = added.with(201);
    assert_eq!(added["id"], 1);
    assert_eq!(added["name"], "Ann");
    assert_eq!(added["email"], "ann@example.org");
    assert!(added["created_at"].is_string());
    assert_eq!(api.get("/users/1").await.with(200), added);

    let changed = api.put("/users/1", json!({"name": "Anna"})).await.with(200);
    assert_eq!(changed["name"], "Anna");
    assert_eq!(changed["email"], "ann@example.org");
    let list = api.get("/users").await.with(200);
    assert_eq!(list, json!({"items": [changed], "total": 1}));

    let gone = api.delete("/users/1").await;
    assert_eq!((gone.status.as_u16(), gone.body.as_str()), (204, ""));
    api.get("/users/1").await.problem(404, &[]);
    let list = api.get("/users").await.with(200);
    assert_eq!(list, json!({"items": [], "total": 0}));
}

#[tokio::test]
async fn categories_are_added_shown_changed_listed_and_removed() {
    let api = Service::start().await;
    let added = api.post("/categories", json!({"name": "home"})).await;
    assert_eq!(added.header("location"), "/categories/1");
    let added = added.with(201);
    assert_eq!((&added["id"], &added["name"]), (&json!(1), &json!("home")));
    assert_eq!(api.get("/categories/1").await.with(200), added);
    let changed = api.put("/categories/1", json!({"name": "house"})).await;
    assert_eq!(changed.with(200)["name"], "house");
    assert_eq!(api.column("/categories", "name").await, ["house"]);
    api.delete("/categories/1").await.with(204);
    assert_eq!(api.get("/categories").await.with(200)["total"], 0);
}

#[tokio::test]
async fn tasks_are_added_shown_changed_listed_and_removed() {
    let api = Service::start().await;
    let user = json!({"name": "Ann", "email": "ann@example.org"});
    let user = api.add("/users", user).await;
    let category = api.add("/categories", json!({"name": "home"})).await;
    let least = api.post("/tasks", json!({"title": "Buy milk"})).await;
    assert_eq!(least.header("location"), "/tasks/1");
    let least = least.with(201);
    for (field, value) in [
        ("id", json!(1)),
        ("title", json!("Buy milk")),
        ("description", Value::Null),
        ("status", json!("pending")),
        ("priority", json!("medium")),
        ("due_date", Value::Null),
        ("user_id", Value::Null),
        ("category_id", Value::Null),
    ] {
        assert_eq!(least[field], value, "{field}");
    }
    let most = json!({
        "title": "Call Bob", "description": "about the \u{1F95B}", "status": "in_progress",
        "priority": "high", "due_date": "2030-02-28", "user_id": user, "category_id": category,
    });
    let added = api.post("/tasks", most.clone()).await.with(201);
    for (field, value) in most.as_object().unwrap() {
        assert_eq!(&added[field], value, "{field}");
    }
    assert_eq!(api.get("/tasks/2").await.with(200), added);

    // What is not named stays, and null takes away.
    let change = json!({"status": "completed", "due_date": null, "category_id": null});
    let changed = api.put("/tasks/2", change).await.with(200);
    assert_eq!(changed["status"], "completed");
    assert!(changed["due_date"].is_null() && changed["category_id"].is_null());
    assert_eq!(changed["description"], added["description"]);
    assert_eq!(changed["user_id"], user);
    assert_eq!(changed["created_at"], added["created_at"]);
    assert_ne!(changed["updated_at"], added["updated_at"]);
    assert_eq!(api.get("/tasks/2").await.with(200), changed);

    let list = api.get("/tasks").await.with(200);
    assert_eq!(list, json!({"items": [least, changed], "total": 2}));
    api.delete("/tasks/1").await.with(204);
    api.get("/tasks/1").await.problem(404, &[]);
    assert_eq!(api.column("/tasks", "id").await, [2]);
}

#[tokio::test]
async fn what_is_not_there_is_404_and_an_id_that_is_no_number_400() {
    let api = Service::start().await;
    for path in ["/tasks", "/users", "/categories"] {
        for (id, status, fields) in [
            ("7", 404, &[][..]),
            ("-1", 404, &[]),
            ("9223372036854775807", 404, &[]),
            ("9223372036854775808", 400, &["id"]),
            ("x", 400, &["id"]),
            ("1.0", 400, &["id"]),
            ("%31x", 400, &["id"]),
            ("%FF", 400, &["id"]),
        ] {
            let path = format!("{path}/{id}");
            api.get(&path).await.problem(status, fields);
            api.put(&path, json!({})).await.problem(status, fields);
            api.delete(&path).await.problem(status, fields);
        }
    }
    api.get("/").await.problem(404, &[]);
    api.get("/tasks/1/x").await.problem(404, &[]);
    let method = api.call("PATCH", "/tasks", &Value::Null).await;
    assert_eq!(method.header("allow"), "GET,HEAD,POST");
    assert!(!method.header("x-served-by").is_empty());
    method.problem(405, &[]);
}

#[tokio::test]
async fn what_has_tasks_is_not_removed() {
    let api = Service::start().await;
    let user = json!({"name": "Ann", "email": "ann@example.org"});
    let user = api.add("/users", user).await;
    let category = api.add("/categories", json!({"name": "home"})).await;
    let task = json!({"title": "t", "user_id": user, "category_id": category});
    let task = api.add("/tasks", task).await;
    for path in ["/users/1", "/categories/1"] {
        let refused = api.delete(path).await.problem(409, &[]);
        assert!(
            refused["detail"]
                .as_str()
                .unwrap()
                .contains("still has tasks")
        );
        api.get(path).await.with(200);
    }
    api.delete(&format!("/tasks/{task}")).await.with(204);
    for path in ["/users/1", "/categories/1"] {
        api.delete(path).await.with(204);
    }
}

#[tokio::test]
async fn what_is_taken_is_409_and_says_so() {
    let api = Service::start().await;
    let user = |email: &str| json!({"name": "Ann", "email": email});
    api.add("/users", user("ann@example.org")).await;
    api.add("/users", user("bob@example.org")).await;
    let again = api.post("/users", user("ANN@example.org")).await;
    again.problem(409, &["email"]);
    let change = json!({"email": "ann@example.org"});
    api.put("/users/2", change).await.problem(409, &["email"]);
    api.add("/categories", json!({"name": "home"})).await;
    api.add("/categories", json!({"name": "work"})).await;
    let again = api.post("/categories", json!({"name": "home"})).await;
    again.problem(409, &["name"]);
    let change = json!({"name": "home"});
    api.put("/categories/2", change)
        .await
        .problem(409, &["name"]);
}

#[tokio::test]
async fn health_tells_of_both_databases() {
    let api = Service::start().await;
    let health = api.get("/health").await.with(200);
    assert_eq!(
        health,
        json!({"status": "up", "postgres": "up", "redis": "up"})
    );
}
