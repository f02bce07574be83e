"""Passes: Graph to Graph, Graph to Plan, and (Graph, Plan) to Program; one file and one function each."""
