mod random_steps;
mod shell;
