//! What a table and its JSON say of goals.

use serde_json::{Value, json};

use super::Figures;

fn figures(value: f64) -> Figures {
    let mut figures = Figures::default();
    figures.add("least", value, "", Some((">=", 3.)));
    figures.add("most", value, "ms", Some(("<=", 3.)));
    figures.add("shown", value, "", None);
    figures
}

#[test]
fn a_figure_on_the_wrong_side_of_its_goal_is_told() {
    assert!(figures(3.).all_hold());
    for (value, missed) in [(2., "least"), (4., "most")] {
        let figures = figures(value);
        assert!(!figures.all_hold());
        let told: Vec<String> = figures.table().lines().map(str::to_owned).collect();
        let wrong: Vec<_> = told.iter().filter(|it| it.ends_with("MISSED")).collect();
        assert!(wrong.len() == 1 && wrong[0].starts_with(missed), "{told:?}");
        let document: Value = serde_json::from_str(&figures.json(json!({"seed": 7}))).unwrap();
        assert_eq!(document["environment"]["seed"], 7);
        let holds = document["figures"].as_array().unwrap().iter().map(|it| &it["holds"]);
        let expected = [missed != "least", missed != "most"].map(Value::from);
        assert_eq!(holds.collect::<Vec<_>>(), [&expected[0], &expected[1], &Value::Null]);
    }
}
