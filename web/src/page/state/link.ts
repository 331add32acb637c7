// A recipe in the address: `#recipe=nf4`, or the recipe as JSON. Nothing is uploaded; fragments never leave the browser.

import type { Recipe } from "statepress";

/** The fragment that stands for a recipe. */
export function fragmentOf(recipe: Recipe, builtin: Recipe[]): string {
  const value = builtin.includes(recipe) ? recipe.name : JSON.stringify(recipe);
  return `#recipe=${encodeURIComponent(value)}`;
}

/** The recipe that a fragment stands for: undefined when it names none, an error in words when it cannot be read. */
export function recipeIn(fragment: string, builtin: Recipe[]): Recipe | undefined {
  const value = new URLSearchParams(fragment.replace(/^#/, "")).get("recipe");
  if (value === null) return undefined;
  if (!value.startsWith("{")) {
    const found = builtin.find((recipe) => recipe.name === value);
    if (found) return found;
    const names = builtin.map((recipe) => recipe.name).join(", ");
    throw new Error(`the link names the recipe ${JSON.stringify(value)}; there are ${names}`);
  }
  let recipe: unknown;
  try {
    recipe = JSON.parse(value);
  } catch {
    throw new Error("the recipe in the link is cut off or damaged: copy the whole link");
  }
  // What is inside is checked by the package, when it is planned.
  if (!isRecipe(recipe)) throw new Error("the recipe in the link has no version 1, no name or no steps");
  return recipe;
}

/** Whether a value has what makes a recipe; what is inside is checked by the package. */
export function isRecipe(value: unknown): value is Recipe {
  const recipe = value as Partial<Recipe> | null;
  return (
    typeof recipe === "object" &&
    recipe?.version === 1 &&
    typeof recipe.name === "string" &&
    Array.isArray(recipe.steps)
  );
}
