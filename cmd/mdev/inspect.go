package main

type inspectCmd struct{}

func (c *inspectCmd) Run(a *app) error { return nil }

type minimizeCmd struct{}

func (c *minimizeCmd) Run(a *app) error { return nil }

type benchCmd struct{}

func (c *benchCmd) Run(a *app) error { return nil }
