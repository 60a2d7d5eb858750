//! Filters, orders and pages.

use crate::process::Service;
use serde_json::json;

/// Two users, two categories, and five tasks.
async fn filled() -> Service {
    let api = Service::start().await;
    for name in ["ann", "bob"] {
        let user = json!({"name": name, "email": format!("{name}@example.org")});
        api.add("/users", user).await;
        api.add("/categories", json!({"name": format!("of {name}")}))
            .await;
    }
    for (title, description, status, priority, due, user, category) in [
        (
            "delta",
            "Milk",
            "pending",
            "low",
            json!("2030-01-02"),
            json!(1),
            json!(1),
        ),
        (
            "alpha",
            "50% of it",
            "pending",
            "high",
            json!("2030-01-01"),
            json!(1),
            json!(2),
        ),
        (
            "Bravo",
            "a_b",
            "completed",
            "medium",
            json!(null),
            json!(2),
            json!(1),
        ),
        (
            "charlie",
            "back\\slash",
            "in_progress",
            "high",
            json!("2029-12-31"),
            json!(2),
            json!(2),
        ),
        (
            "echo milk",
            "",
            "pending",
            "medium",
            json!(null),
            json!(null),
            json!(null),
        ),
    ] {
        let task = json!({
            "title": title, "description": description, "status": status, "priority": priority,
            "due_date": due, "user_id": user, "category_id": category,
        });
        api.add("/tasks", task).await;
    }
    api
}

#[tokio::test]
async fn filters_choose_and_combine() {
    let api = filled().await;
    for (query, ids) in [
        ("", &[1, 2, 3, 4, 5][..]),
        ("status=pending", &[1, 2, 5]),
        ("status=in_progress", &[4]),
        ("user_id=1", &[1, 2]),
        ("category_id=2", &[2, 4]),
        ("user_id=7", &[]),
        ("status=pending&user_id=1&category_id=1", &[1]),
        ("category_id=1&status=completed", &[3]),
        ("search=milk", &[1, 5]),
        ("search=MILK&status=pending&user_id=1", &[1]),
        ("search=RAV", &[3]),
        // Nothing of it means anything but itself.
        ("search=%25", &[2]),
        ("search=a_b", &[3]),
        ("search=_", &[3]),
        ("search=%5C", &[4]),
        ("search=%27%3B--", &[]),
        ("search=", &[1, 2, 3, 4, 5]),
        ("search=k%20s", &[]),
    ] {
        let list = api.get(&format!("/tasks?{query}")).await.with(200);
        let items = list["items"].as_array().unwrap();
        let found: Vec<_> = items
            .iter()
            .map(|item| item["id"].as_i64().unwrap())
            .collect();
        assert_eq!(found, ids, "{query}");
        assert_eq!(list["total"], ids.len(), "{query}");
    }
}

#[tokio::test]
async fn every_order_goes_both_ways_and_equals_go_by_id() {
    let api = filled().await;
    for (sort, ids) in [
        ("id", [1, 2, 3, 4, 5]),
        ("-id", [5, 4, 3, 2, 1]),
        // Bytes decide: the database has no locale.
        ("title", [3, 2, 4, 1, 5]),
        ("-title", [5, 1, 4, 2, 3]),
        ("status", [1, 2, 5, 4, 3]),
        ("-status", [3, 4, 5, 2, 1]),
        ("priority", [1, 3, 5, 2, 4]),
        ("-priority", [4, 2, 5, 3, 1]),
        ("due_date", [4, 2, 1, 3, 5]),
        ("-due_date", [5, 3, 1, 2, 4]),
        ("created_at", [1, 2, 3, 4, 5]),
        ("-created_at", [5, 4, 3, 2, 1]),
        ("updated_at", [1, 2, 3, 4, 5]),
        ("-updated_at", [5, 4, 3, 2, 1]),
    ] {
        let found = api.column(&format!("/tasks?sort={sort}"), "id").await;
        assert_eq!(found, ids, "{sort}");
    }
    assert_eq!(api.column("/users?sort=-email", "id").await, [2, 1]);
    assert_eq!(api.column("/users?sort=name", "id").await, [1, 2]);
    assert_eq!(api.column("/categories?sort=-name", "id").await, [2, 1]);
    assert_eq!(
        api.column("/categories?sort=-created_at", "id").await,
        [2, 1]
    );
}

#[tokio::test]
async fn pages_do_not_overlap_and_know_the_total() {
    let api = filled().await;
    for (query, ids) in [
        ("limit=2", &[1, 2][..]),
        ("limit=2&offset=2", &[3, 4]),
        ("limit=2&offset=4", &[5]),
        ("limit=2&offset=5", &[]),
        ("offset=1000000000", &[]),
        ("limit=1000&sort=-id&offset=3", &[2, 1]),
    ] {
        let path = format!("/tasks?{query}");
        assert_eq!(api.column(&path, "id").await, ids, "{query}");
        assert_eq!(api.get(&path).await.with(200)["total"], 5);
    }
    assert_eq!(api.column("/users?limit=1&offset=1", "id").await, [2]);
    assert_eq!(api.get("/users?limit=1").await.with(200)["total"], 2);
    assert_eq!(api.column("/categories?limit=1", "id").await, [1]);
}

#[tokio::test]
async fn a_parameter_that_is_not_understood_is_named_with_400() {
    let api = Service::start().await;
    for (query, fields) in [
        ("sort=nope", &["sort"][..]),
        ("sort=", &["sort"]),
        ("sort=--title", &["sort"]),
        ("sort=title,id", &["sort"]),
        ("sort=description", &["sort"]),
        ("limit=0", &["limit"]),
        ("limit=1001", &["limit"]),
        ("limit=x", &["limit"]),
        ("limit=-1", &["limit"]),
        ("limit=", &["limit"]),
        ("offset=-1", &["offset"]),
        ("offset=1.5", &["offset"]),
        ("status=done-ish", &["status"]),
        ("status=Pending", &["status"]),
        ("user_id=ann", &["user_id"]),
        ("category_id=9223372036854775808", &["category_id"]),
        ("search=%00", &["search"]),
        ("page=2", &["page"]),
        ("status=pending&status=completed", &["status"]),
        ("x=1&limit=0&sort=y", &["limit", "sort", "x"]),
    ] {
        let path = format!("/tasks?{query}");
        let problem = api.get(&path).await.problem(400, fields);
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            fields.iter().any(|field| detail.starts_with(field)),
            "{detail}"
        );
    }
    api.get("/users?sort=title").await.problem(400, &["sort"]);
    api.get("/users?status=pending")
        .await
        .problem(400, &["status"]);
    api.get("/categories?sort=email")
        .await
        .problem(400, &["sort"]);
}
