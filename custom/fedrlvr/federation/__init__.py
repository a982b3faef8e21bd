"""The only room that imports nvflare: recipe, controller, executor, and what travels between them."""
