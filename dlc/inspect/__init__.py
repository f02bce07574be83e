"""What people look at: tables of networks and plans, explanations, differences."""
