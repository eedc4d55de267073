"""Who does what, where: boxes of actors and their actions, found in the dense maps of keyframes and linked to tubes."""
