//! Bodies that are not understood (400) or not valid (422): the field is named.

use crate::process::Service;
use serde_json::json;

#[tokio::test]
async fn a_field_that_is_not_valid_is_named_with_422() {
    let api = Service::start().await;
    let long = "x".repeat(201);
    let text = "x".repeat(10_001);
    for (path, body, fields) in [
        ("/tasks", json!({}), &["title"][..]),
        ("/tasks", json!({"title": null}), &["title"]),
        ("/tasks", json!({"title": " \n"}), &["title"]),
        ("/tasks", json!({"title": long}), &["title"]),
        ("/tasks", json!({"title": "a\u{0}b"}), &["title"]),
        (
            "/tasks",
            json!({"title": "", "description": text}),
            &["description", "title"],
        ),
        (
            "/tasks",
            json!({"title": "t", "description": "\u{0}"}),
            &["description"],
        ),
        ("/tasks", json!({"title": "t", "user_id": 9}), &["user_id"]),
        (
            "/tasks",
            json!({"title": "t", "category_id": -1}),
            &["category_id"],
        ),
        ("/users", json!({}), &["email", "name"]),
        ("/users", json!({"name": "n", "email": "x"}), &["email"]),
        (
            "/users",
            json!({"name": "n", "email": "a b@c.d"}),
            &["email"],
        ),
        ("/users", json!({"name": " ", "email": "a@b.cd"}), &["name"]),
        ("/categories", json!({}), &["name"]),
        ("/categories", json!({"name": ""}), &["name"]),
        ("/categories", json!({"name": long}), &["name"]),
    ] {
        api.post(path, body).await.problem(422, fields);
    }
    api.add("/users", json!({"name": "n", "email": "a@b.cd"}))
        .await;
    api.add("/categories", json!({"name": "n"})).await;
    // As long as it may be, counted in characters.
    let task = api.add("/tasks", json!({"title": "ü".repeat(200)})).await;
    let task = &format!("/tasks/{task}");
    for (path, body, fields) in [
        (task.as_str(), json!({"title": " "}), &["title"][..]),
        (task.as_str(), json!({"user_id": 9}), &["user_id"]),
        (task.as_str(), json!({"category_id": 9}), &["category_id"]),
        ("/users/1", json!({"email": "x"}), &["email"]),
        ("/categories/1", json!({"name": "\t"}), &["name"]),
    ] {
        api.put(path, body).await.problem(422, fields);
    }
}

#[tokio::test]
async fn a_field_that_is_not_known_or_of_another_type_is_named_with_400() {
    let api = Service::start().await;
    for (body, fields) in [
        (json!({"title": 3}), &["title"][..]),
        (json!({"titel": "t"}), &["titel"]),
        (json!({"title": "t", "status": "no"}), &["status"]),
        (json!({"title": "t", "priority": 1}), &["priority"]),
        (
            json!({"title": "t", "due_date": "2030-02-30"}),
            &["due_date"],
        ),
        (json!({"title": "t", "due_date": "tomorrow"}), &["due_date"]),
        (json!({"title": "t", "user_id": "1"}), &["user_id"]),
        (json!({"title": "t", "user_id": 1.5}), &["user_id"]),
        (json!({"title": "t", "id": 7, "x": 1}), &["id", "x"]),
    ] {
        api.post("/tasks", body).await.problem(400, fields);
    }
    // Null is no title, no status and no priority.
    let nothing = json!({"title": null, "status": null, "priority": null});
    let fields = &["priority", "status", "title"];
    api.put("/tasks/1", nothing).await.problem(400, fields);
}

#[tokio::test]
async fn what_is_no_json_object_is_400_and_too_much_413() {
    let api = Service::start().await;
    for body in [
        "",
        "{",
        "[]",
        "null",
        "3",
        "title=x",
        "{\"title\": \"\u{1}\"}",
    ] {
        let answer = api.raw("POST", "/tasks", body).await.unwrap();
        answer.problem(400, &[]);
    }
    let bytes: &[u8] = b"{\"title\": \"\xff\"}";
    api.raw("POST", "/tasks", bytes)
        .await
        .unwrap()
        .problem(400, &[]);
    // One byte more than there may be, so that all of it is read before it is refused.
    let much = "x".repeat(2 * 1024 * 1024 + 1);
    let answer = api.raw("POST", "/tasks", much).await.unwrap();
    answer.problem(413, &[]);
    assert_eq!(api.get("/tasks").await.with(200)["total"], 0);
}
