"""From features to the affinity graph whose Laplacian is solved."""
