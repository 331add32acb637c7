//! The built-in recipes. Each is a JSON file in `recipes/`, in the schema users write.

use statepress_core::Recipe;

use crate::EngineError;

const FILES: [&str; 10] = [
    include_str!("recipes/none.json"),
    include_str!("recipes/fp16.json"),
    include_str!("recipes/bf16.json"),
    include_str!("recipes/int8.json"),
    include_str!("recipes/int4.json"),
    include_str!("recipes/nf4.json"),
    include_str!("recipes/mixed.json"),
    include_str!("recipes/mixed-aggressive.json"),
    include_str!("recipes/seed-conservative.json"),
    include_str!("recipes/seed-aggressive.json"),
];

/// Every built-in recipe.
pub fn builtin() -> Result<Vec<Recipe>, EngineError> {
    FILES.iter().map(|json| Ok(Recipe::from_json(json)?)).collect()
}

/// The built-in recipe of that name.
pub fn find(name: &str) -> Result<Recipe, EngineError> {
    let recipes = builtin()?;
    let known = recipes.iter().map(|recipe| recipe.name.as_str()).collect::<Vec<_>>().join(", ");
    recipes
        .into_iter()
        .find(|recipe| recipe.name == name)
        .ok_or(EngineError::UnknownRecipe { name: name.into(), known })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_is_a_recipe_with_its_own_name() {
        let recipes = builtin().unwrap();
        for recipe in &recipes {
            assert_eq!(find(&recipe.name).unwrap(), *recipe);
            assert!(recipe.description.is_some(), "{} explains itself", recipe.name);
        }
        let error = find("int3").unwrap_err().to_string();
        assert!(error.contains("int3") && error.contains("mixed-aggressive"), "{error}");
    }
}
