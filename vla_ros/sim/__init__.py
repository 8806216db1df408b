"""The MuJoCo cell: world, tasks, judge, scripted expert."""
