//! The description of the API, and the page that shows it.

use crate::process::Service;
use serde_json::Value;
use std::collections::BTreeSet;

#[tokio::test]
async fn the_description_has_every_route_and_nothing_it_refers_to_is_missing() {
    let api = Service::start().await;
    let description = api.get("/api-docs/openapi.json").await.with(200);
    let paths = description["paths"].as_object().unwrap();
    let routes: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{method} {path}"))
        })
        .collect();
    let mut expected = BTreeSet::from(["get /health".to_owned()]);
    for path in ["/tasks", "/users", "/categories"] {
        expected.extend(["get", "post"].map(|method| format!("{method} {path}")));
        let one = format!("{path}/{{id}}");
        expected.extend(["get", "put", "delete"].map(|method| format!("{method} {one}")));
    }
    assert_eq!(routes, expected);

    let operations = paths
        .values()
        .flat_map(|path| path.as_object().unwrap().values());
    let ids: Vec<_> = operations
        .map(|o| o["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), expected.len());
    let parameters = paths["/tasks"]["get"]["parameters"].as_array().unwrap();
    let names: Vec<_> = parameters
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    let all = [
        "status",
        "user_id",
        "category_id",
        "search",
        "sort",
        "limit",
        "offset",
    ];
    assert_eq!(names, all);
    let mut references = Vec::new();
    find(&description, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{reference}");
    }
    let missing = &paths["/tasks/{id}"]["get"]["responses"]["404"]["content"];
    assert!(missing["application/problem+json"].is_object(), "{missing}");
    let task = &description["components"]["schemas"]["NewTask"];
    assert_eq!(task["required"], serde_json::json!(["title"]));
}

fn find<'a>(value: &'a Value, references: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            references.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|value| find(value, references));
        }
        Value::Array(list) => list.iter().for_each(|value| find(value, references)),
        _ => {}
    }
}

#[tokio::test]
async fn the_page_is_html_and_everything_it_loads_is_there() {
    let api = Service::start().await;
    let page = api.get("/docs").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.body.contains("SwaggerUIBundle"));
    let loaded: Vec<_> = page
        .body
        .split('"')
        .filter(|text| text.starts_with('/'))
        .collect();
    assert!(loaded.contains(&"/api-docs/openapi.json") && loaded.len() >= 4);
    for path in loaded {
        let answer = api.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.is_empty(), "{path}");
    }
    // Redirected.
    assert_eq!(api.get("/docs/").await.body, page.body);
}
